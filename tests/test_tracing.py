"""The traces of utterances and questions: their spans, in order, in one trace, without words."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from af3stream.config import TracingConfig
from af3stream.engine.contract import Text
from af3stream.engine.jobs import AnswerJob, CaptionJob, Failed, Job
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.protocol import messages as m
from af3stream.tracing import Tracing, open_tracing
from tests.cluster.links import Running, Timeline, Told
from tests.server.peers import Peer, serving, talking
from tests.server.test_sessions import speak
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation
from tests.session.test_speaker_track import START, TALK

QUESTION = "Who speaks of the harvest?"


@dataclass
class Spans:
    """The spans that `tracing` has exported."""

    tracing: Tracing
    exporter: InMemorySpanExporter

    @property
    def all(self) -> list[ReadableSpan]:
        return [*self.exporter.get_finished_spans()]

    def named(self, name: str) -> ReadableSpan:
        """The only span of this name."""
        [span] = [span for span in self.all if span.name == name]
        return span

    def below(self, root: ReadableSpan) -> list[str]:
        """The names of a root's spans, by their starts."""
        spans = [span for span in self.all if span.parent]
        assert {(span.parent and span.parent.span_id, span.context.trace_id) for span in spans} <= {
            (other.context.span_id, other.context.trace_id) for other in self.all if not other.parent
        }
        mine = [span for span in spans if span.context.trace_id == root.context.trace_id]
        return [span.name for span in sorted(mine, key=lambda span: (span.start_time or 0, span.end_time or 0))]


def collected(provider: TracerProvider) -> Spans:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(Tracing(provider), exporter)


@pytest.fixture
def spans() -> Iterator[Spans]:
    found = collected(TracerProvider())
    yield found
    found.tracing.close()


def seconds(span: ReadableSpan) -> float:
    assert span.start_time and span.end_time
    return (span.end_time - span.start_time) / 1e9


async def converse(peer: Peer) -> None:
    await speak(peer)
    await peer.tell(m.Flush("f"))
    await peer.until(m.Flushed)
    await peer.tell(m.Ask("q-harvest", QUESTION))
    await peer.until(m.Answer)


async def test_an_utterance_is_one_trace_from_its_audio_to_its_final_caption(spans: Spans, tmp_path: Path) -> None:
    async with serving(journal=tmp_path, tracing=spans.tracing) as service, talking(service) as peer:
        await converse(peer)
    root = spans.named("utterance")
    assert sorted(spans.below(root)) == ["commit", "decode", "queue", "receive"]
    assert root.attributes and root.attributes["af3stream.utterance"] == 0


async def test_a_question_is_one_trace_from_asking_to_its_answer(spans: Spans, tmp_path: Path) -> None:
    async with serving(journal=tmp_path, tracing=spans.tracing) as service, talking(service) as peer:
        await converse(peer)
    root = spans.named("question")
    assert spans.below(root) == ["wait", "queue", "prefill", "decode", "commit"]
    assert [event.name for event in root.events] == ["first token"]
    assert root.attributes and root.attributes["af3stream.finish"] == "stop"


async def test_spans_hold_no_words_and_no_names_that_clients_chose(spans: Spans, tmp_path: Path) -> None:
    async with serving(journal=tmp_path, tracing=spans.tracing) as service, talking(service) as peer:
        await converse(peer)
    told = "\n".join(span.to_json() for span in spans.all)
    assert peer.finals
    for words in (QUESTION, "harvest", *(caption.text for caption in peer.finals), peer.of(m.Answer)[0].text):
        assert words not in told


def test_the_span_receive_ends_with_the_pause(spans: Spans) -> None:
    Conversation(tracing=spans.tracing).hear(SENTENCE)
    receive = spans.named("receive")
    assert seconds(receive) == pytest.approx(1.0 + 0.6 - 0.1)  # voice and pause, after the first block
    assert receive.start_time == spans.named("utterance").start_time


def test_a_final_caption_that_is_begun_again_stays_in_its_trace(spans: Spans) -> None:
    engine = ScriptedEngine()
    worker = Worker(engine, tracing=spans.tracing)
    conversation = Conversation(engine=engine, worker=worker, tracing=spans.tracing)
    conversation.hear(VOICE + SILENCE[:20] + VOICE + SILENCE)  # the first pause is too short
    jobs = [job for job in conversation.asked_of_engine(CaptionJob) if job.final]
    assert len(jobs) > 1 and len({job.trace for job in jobs}) == 1
    assert spans.below(spans.named("utterance")).count("decode") == len(jobs)


def test_the_parts_of_a_divided_utterance_have_a_trace_each(spans: Spans) -> None:
    conversation = Conversation(START, tracing=spans.tracing)
    conversation.hear(TALK)
    roots = [span for span in spans.all if span.name == "utterance"]
    numbers = [span.attributes["af3stream.utterance"] for span in roots if span.attributes]
    assert numbers == [caption.utterance for caption in conversation.finals] == [0, 1, 2, 3, 4]
    starts = [span.start_time or 0 for span in roots]
    assert starts == sorted({*starts})
    assert all(spans.below(root) == ["receive", "commit"] for root in roots)


def test_an_utterance_without_words_ends_its_trace(spans: Spans) -> None:
    conversation = Conversation(m.Start(interims=False), tracing=spans.tracing)
    conversation.engine.captioner.caption = None  # type: ignore[assignment]  # every attempt fails
    conversation.hear(SENTENCE)
    root = spans.named("utterance")
    assert root.attributes and root.attributes["af3stream.words"] is False


def test_a_question_that_fails_ends_its_trace_with_the_error(spans: Spans) -> None:
    conversation = Conversation(tracing=spans.tracing)
    conversation.hear(SENTENCE)
    conversation.working = False
    conversation.tell(m.Ask("q", QUESTION))
    [job] = conversation.asked_of_engine(AnswerJob)
    conversation.session.complete(job, Failed("the engine failed"), True, conversation.now)
    conversation.session.take_messages()
    root = spans.named("question")
    assert root.attributes and root.attributes["af3stream.error"] == "engine_failed"


def test_a_cancelled_question_ends_its_trace(spans: Spans) -> None:
    conversation = Conversation(tracing=spans.tracing)
    conversation.hear(SENTENCE)
    conversation.working = False
    conversation.tell(m.Ask("q", QUESTION))
    conversation.tell(m.Cancel("q"))
    root = spans.named("question")
    assert root.attributes and root.attributes["af3stream.finish"] == "cancelled"


def test_what_is_not_sampled_costs_the_engine_nothing() -> None:
    spans = collected(TracerProvider(sampler=ALWAYS_OFF))
    conversation = Conversation(tracing=spans.tracing)
    conversation.hear(SENTENCE)
    conversation.ask()
    traced: list[Job] = [job for job in conversation.jobs if isinstance(job, CaptionJob | AnswerJob) and job.trace]
    assert not traced and not spans.all
    spans.tracing.close()


def test_nothing_of_opentelemetry_is_imported_while_tracing_is_off() -> None:
    code = "import sys, af3stream.server.service, af3stream.engine.worker; print('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_job_without_tracing_has_no_trace() -> None:
    conversation = Conversation()
    conversation.hear(SENTENCE)
    assert {job.trace for job in conversation.asked_of_engine(CaptionJob)} == {""}


async def test_spans_of_an_engine_in_another_process_join_the_trace(spans: Spans) -> None:
    remote = collected(TracerProvider())
    traced = [spans.tracing.start(name, time.monotonic()) for name in ("utterance", "question")]
    caption, answer = (
        CaptionJob(0, Timeline().at(0, 16_000), None, final=True, max_tokens=9, trace=traced[0].parent),
        AnswerJob((Text("[0:00] word1.\n"),), "What?", 9, trace=traced[1].parent),
    )
    async with Running(tracing=remote.tracing) as engine:
        link, told = await engine.link(), Told()
        link.open("s", Timeline(), told.resident)
        for job in (caption, answer):
            link.submit("s", job, told.report)
        await told.finished(caption, answer)
        await link.disconnect()
    for trace in traced:
        trace.end(time.monotonic())
    for name, expected in (("utterance", ["queue", "decode"]), ("question", ["queue", "prefill", "decode"])):
        root = spans.named(name).context
        found = [span for span in remote.all if span.context.trace_id == root.trace_id]
        assert {span.parent.span_id for span in found if span.parent} == {root.span_id}
        assert sorted(span.name for span in found) == sorted(expected)
    remote.tracing.close()


class Collector(BaseHTTPRequestHandler):
    """Keeps what is exported to it, on its server."""

    server: CollectorServer

    def do_POST(self) -> None:
        body = gzip.decompress if self.headers.get("Content-Encoding") == "gzip" else bytes
        exported = ExportTraceServiceRequest.FromString(body(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.exported.append((self.path, exported))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class CollectorServer(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Collector)
        self.exported: list[tuple[str, ExportTraceServiceRequest]] = []


def test_traces_are_exported_over_http() -> None:
    with CollectorServer() as collector:
        threading.Thread(target=collector.handle_request, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        tracing = open_tracing(TracingConfig(endpoint=endpoint), "gateway")
        tracing.start("utterance", time.monotonic()).end(time.monotonic())
        tracing.close()
        [(path, exported)] = collector.exported
    [resource] = exported.resource_spans
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (path, named["service.name"]) == ("/v1/traces", "af3stream-gateway")
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["utterance"]
