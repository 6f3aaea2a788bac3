"""A link gives what the worker behind it gives, on real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Sequence

import pytest
from msgspec.structs import replace

from af3stream.engine.captioning import Hypothesis, NamedSound, Voices
from af3stream.engine.contract import AudioSegment, Completion, Lookup, PromptPart, Text, Turn
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    Failed,
    Job,
    ReviseJob,
    SoundJob,
    VoiceJob,
)
from af3stream.engine.scripted import ScriptedContext, ScriptedEngine, ScriptedSounds
from af3stream.engine.worker import Worker
from tests.cluster.links import QUICK, Timeline, Told, linked

AUDIO = Timeline()
SECOND = 16_000


def segment(start_s: float, end_s: float) -> AudioSegment:
    start, end = int(start_s * SECOND), int(end_s * SECOND)
    return AudioSegment(start, end, (end - start) // 640)


class GatedContext(ScriptedContext):
    """After the first word of an answer, it waits for a gate."""

    gate: threading.Event

    def answer(
        self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
    ) -> Generator[str | Completion, None, None]:
        for i, piece in enumerate(super().answer(parts, question, max_tokens, earlier)):
            if i == 1:
                assert self.gate.wait(10)
            yield piece


class Gated(ScriptedEngine):
    """Its answers wait for a gate after their first word."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def context(self, embeddings: Lookup) -> ScriptedContext:
        context = GatedContext(self.counters, embeddings)
        context.gate = self.gate
        return context


def every_kind() -> list[Job]:
    window, opened = segment(0, 4), segment(4, 5)
    parts = (window, Text("[0:00] word1 word2.\n"))
    return [
        CaptionJob(0, AUDIO.at(8_000, 24_000), None, final=False, max_tokens=9, start=8_000),
        VoiceJob(AUDIO.at(8_000, 40_000), ((0, 16_000), (16_000, 32_000)), start=8_000),
        CaptionJob(0, AUDIO.at(8_000, 40_000), Hypothesis("word1", (0,)), final=True, max_tokens=9, start=8_000),
        EncodeJob(0, window, AUDIO.at(0, 64_000)),
        ReviseJob(0, AUDIO.at(8_000, 60_000), 9, start=8_000),
        SoundJob(0, window, 40_000, 64_000),
        ExtendJob(parts, rebuild=False),
        AnswerJob((*parts, opened), "What?", 9, prefix=2, samples={opened: AUDIO.at(64_000, 80_000)}),
    ]


def naming() -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.sounds = ScriptedSounds(NamedSound("A bell.", 0.9))
    return engine


def plain(told: Told, job: Job) -> list[object]:
    return [(result.vectors.tolist() if isinstance(result, Voices) else result, done) for result, done in told.of(job)]


async def test_every_kind_of_job_gives_what_the_worker_gives() -> None:
    here, jobs = Told(), every_kind()
    worker = Worker(naming())
    worker.open("s", AUDIO, here.resident)
    for job in jobs:
        worker.submit("s", job, here.report)
        worker.run_all()
    there = Told()
    async with linked(naming()) as (_, link):
        link.open("s", AUDIO, there.resident)
        for job in jobs:
            link.submit("s", job, there.report)
            await there.finished(job)
    for job in jobs:
        assert plain(there, job) == plain(here, job)
    assert there.residents[-1] == here.residents[-1] == {segment(0, 4)}


async def test_an_answer_comes_piece_by_piece_in_order() -> None:
    told, job = Told(), AnswerJob((Text("Hello."),), "What?", 9)
    async with linked() as (_, link):
        link.open("s", AUDIO, told.resident)
        link.submit("s", job, told.report)
        await told.finished(job)
    *pieces, completion, end = told.of(job)
    assert [text for text, _ in pieces] == ["What?", " <-", " Hello."]
    assert (completion, end) == ((Completion(3, "stop", 2), False), (None, True))


async def test_a_cancelled_job_is_reported_no_more() -> None:
    engine, told = Gated(), Told()
    job, other = (AnswerJob((), question, 9) for question in ("one two three four", "Next?"))
    async with linked(engine) as (_, link):
        link.open("s", AUDIO, told.resident)
        link.submit("s", job, told.report)
        await told.until(lambda: len(told.of(job)) == 1)
        link.cancel("s", job.id)
        link.cancel("s", other.id)  # nor does one that is not there matter
        link.submit("s", other, told.report)
        engine.gate.set()
        await told.finished(other)
    assert told.of(job) == [("one", False)]


async def test_jobs_of_a_detached_session_wait_until_it_is_attached() -> None:
    engine, told = Gated(), Told()
    busy, (late, soon) = AnswerJob((), "Hold.", 9), (AnswerJob((), question, 9) for question in ("Late?", "Soon?"))
    async with linked(engine) as (_, link):
        for session in "abc":
            link.open(session, AUDIO, told.resident)
        link.submit("c", busy, told.report)
        await told.until(lambda: bool(told.of(busy)))
        link.detach("a")
        link.submit("a", late, told.report)
        link.submit("b", soon, told.report)
        await asyncio.sleep(0.1)  # until the worker has them all
        engine.gate.set()
        await told.finished(late, soon)
        assert told.results.index((soon, None, True)) < told.results.index((late, "Late?", False))
        again = [AnswerJob((), f"Attached {i}?", 9) for i in range(2)]
        link.attach("a")
        link.submit("a", again[0], told.report)
        link.submit("b", again[1], told.report)
        await told.finished(*again)


async def test_a_closed_session_is_dropped_and_may_be_opened_again() -> None:
    told, job = Told(), AnswerJob((Text("Hello."),), "What?", 9)
    async with linked() as (running, link):
        for _ in range(3):
            link.open("s", AUDIO, told.resident)
            link.submit("s", job, told.report)
            link.close("s")
        link.open("s", AUDIO, told.resident)
        link.submit("s", job, told.report)
        await told.finished(job)
        assert [done for _, done in told.of(job)].count(True) == 1
        link.close("s")
        await told.until(lambda: running.worker.sessions == 0)


async def test_the_load_is_told_several_times_a_second() -> None:
    told = Told()
    async with linked() as (running, link):
        first = link.load
        link.open("s", AUDIO, told.resident)
        job = EncodeJob(0, segment(0, 4), AUDIO.at(0, 64_000))
        link.submit("s", job, told.report)
        await told.finished(job)
        await told.until(lambda: link.load.sessions == 1 and link.load.embedding_bytes > 0)
        assert link.load is not first
        assert link.load.busy_s > 0
        assert (link.load.kv_sessions, link.load.kv_bytes) == (0, 0)
        link.submit("s", extend := ExtendJob((segment(0, 4),), rebuild=False), told.report)
        await told.finished(extend)
        await told.until(lambda: link.load.kv_sessions == 1 and link.load.kv_bytes > 0)
        running.server.drain()
        await told.until(lambda: link.load.draining)


# ---- older audio -----------------------------------------------------------------------------------------------------


async def test_evicted_audio_is_read_again_and_the_answer_is_the_same() -> None:
    told, windows = Told(), [segment(4 * i, 4 * i + 4) for i in range(5)]
    audio, ask = Timeline(), [AnswerJob(tuple(windows), "What?", 20) for _ in range(2)]
    async with linked() as (running, link):
        link.open("s", audio, told.resident)
        jobs = [EncodeJob(i, window, audio.read(window)) for i, window in enumerate(windows)]
        for job in jobs:
            link.submit("s", job, told.report)
        await told.finished(*jobs)
        assert told.residents[-1] == set(windows)
        link.submit("s", ask[0], told.report)
        await told.finished(ask[0])
        audio.reads.clear()
        running.worker.evict_all()
        await told.until(lambda: told.residents[-1] == frozenset())
        link.submit("s", ask[1], told.report)
        await told.finished(ask[1])
        assert told.of(ask[1]) == told.of(ask[0])
        assert sorted(audio.reads, key=lambda read: read.start) == windows
        assert told.residents[-1] == set(windows)


async def test_other_jobs_run_while_older_audio_is_read() -> None:
    told, window, gate = Told(), segment(0, 4), threading.Event()
    audio = Timeline()
    audio.before_read = gate.wait  # type: ignore[assignment]
    ask, caption = AnswerJob((window,), "What?", 9), CaptionJob(0, AUDIO.at(0, 16_000), None, final=False, max_tokens=9)
    async with linked() as (_, link):
        link.open("s", audio, told.resident)
        link.submit("s", ask, told.report)
        await asyncio.sleep(0.1)
        link.submit("s", caption, told.report)
        await told.finished(caption)
        assert told.of(ask) == []
        gate.set()
        await told.finished(ask)


@pytest.mark.parametrize("failure", ["gone", "late"])
async def test_audio_that_does_not_come_fails_one_job_alone(failure: str) -> None:
    told, window, gate = Told(), segment(0, 4), threading.Event()
    audio = Timeline()
    audio.gone = failure == "gone"
    if failure == "late":
        audio.before_read = gate.wait  # type: ignore[assignment]
    ask, again, other = (AnswerJob((part,), "What?", 9) for part in (window, window, Text("Hello.")))
    async with linked(config=replace(QUICK, read_timeout_s=0.2)) as (_, link):
        link.open("s", audio, told.resident)
        link.submit("s", ask, told.report)
        await told.finished(ask)
        assert told.of(ask) == [(Failed("the engine failed: DataLoss"), True)]
        link.submit("s", other, told.report)
        await told.finished(other)
        gate.set()
        audio.gone = False
        link.submit("s", again, told.report)
        await told.finished(again)
        assert told.of(again)[0] == ("What?", False)
