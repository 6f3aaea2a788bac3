"""Sessions over real sockets, with the scripted engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import soundfile

from af3stream.config import QuestionsConfig, ServerConfig
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import Embeddings, Lookup
from af3stream.engine.scripted import ScriptedContext, ScriptedEngine
from af3stream.errors import SourceError
from af3stream.protocol import messages as m
from af3stream.protocol.codec import JSON, MSGPACK, SUBPROTOCOLS
from af3stream.protocol.features import FEATURES, FOLLOW_UPS
from af3stream.server import connection
from af3stream.server.ports import check_address
from af3stream.server.service import Service
from tests.conftest import RECORDINGS
from tests.server.peers import PATIENCE_S, Peer, connected, serving, settled, still_there, talking

RATE = 16_000
SPEECH: bytes = soundfile.read(RECORDINGS / "sense_and_sensibility_01_austen_64kb-0880.wav", dtype="int16")[0].tobytes()
FRAMES = len(SPEECH) // 2
BLOCK = 2 * RATE // 10  # bytes


async def speak(peer: Peer, pcm: bytes = SPEECH, at: int = 0) -> None:
    for i in range(0, len(pcm), BLOCK):
        await peer.tell(m.Audio(at + i // 2, pcm[i : i + BLOCK]))


class SlowEngine(ScriptedEngine):
    """Takes its time to encode."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.contexts = 0
        self.encoding = threading.Event()

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        self.encoding.set()
        time.sleep(self._seconds)
        return super().encode(windows)

    def context(self, embeddings: Lookup) -> ScriptedContext:
        self.contexts += 1
        return super().context(embeddings)


# ---- the happy path --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
async def test_a_whole_session(subprotocol: str) -> None:
    async with serving() as service, talking(service, subprotocol=subprotocol) as peer:
        await speak(peer)
        await peer.tell(m.Ask("q", "What was said?"))
        answer = await peer.until(m.Answer)
        await peer.tell(m.End(FRAMES))
        ended = await peer.until(m.Ended)
        assert await peer.until_closed() == 1000
    assert answer.text.startswith("What was said? <- ")
    assert "".join(delta.text for delta in peer.of(m.AnswerDelta)) == answer.text
    assert peer.finals and peer.said[-1] == ended
    assert ended.total == FRAMES
    assert ended.heard_s + ended.skipped_s == pytest.approx(FRAMES / RATE, abs=0.001)


async def test_several_sessions_at_once_hear_only_themselves() -> None:
    async def one(service: Service, index: int) -> list[m.Caption]:
        pcm = SPEECH[: BLOCK * 10 * (index + 1)]
        async with talking(service) as peer:
            await speak(peer, pcm)
            await peer.tell(m.End(len(pcm) // 2))
            assert (await peer.until(m.Ended)).total == len(pcm) // 2
        return peer.finals

    async with serving(max_sessions=3) as service:
        together = await asyncio.gather(*(one(service, index) for index in range(3)))
        await settled(service)
        alone = [await one(service, index) for index in range(3)]
    assert together == alone


async def test_what_is_refused_is_told_and_the_session_goes_on() -> None:
    async with serving() as service, talking(service) as peer:
        for message in (
            m.Audio(5, b"\0\0"),
            m.Audio(0, b"\0"),
            m.Audio(-1, b"\0\0"),
            m.Gap(0, 0),
            m.Ask("q", ""),
            m.End(7),
            m.Start(),
        ):
            await peer.tell(message)
        await peer.tell(m.End(0))
        await peer.until(m.Ended)
    errors = peer.of(m.Error)
    assert [error.code for error in errors] == [
        "offset_gap", "bad_audio", "bad_offset", "bad_audio", "bad_text", "bad_end", "no_session",
    ]  # fmt: skip
    assert not any(error.fatal for error in errors)
    assert errors[0].expected_offset == 0 and errors[4].ref == "q"


# ---- who has to go ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subprotocol", "nonsense"), [(MSGPACK, b"\xc1"), (MSGPACK, b""), (JSON, "{"), (JSON, '{"type":"sesame"}')]
)
async def test_three_bad_messages(subprotocol: str, nonsense: bytes | str) -> None:
    async with serving() as service, talking(service, subprotocol=subprotocol) as peer:
        for _ in range(2):
            await peer.socket.send(nonsense)
        await peer.tell(m.Flush("still-here"))
        await peer.until(m.Flushed)
        await peer.socket.send(nonsense)
        assert await peer.until_closed() == 4400
    assert [(error.code, error.fatal) for error in peer.of(m.Error)] == [
        ("bad_message", False), ("bad_message", False), ("bad_message", True),
    ]  # fmt: skip


@pytest.mark.parametrize(("subprotocol", "frame"), [(MSGPACK, '{"type":"end","total":0}'), (JSON, b"\x80")])
async def test_the_wrong_kind_of_frame(subprotocol: str, frame: bytes | str) -> None:
    async with serving() as service, talking(service, subprotocol=subprotocol) as peer:
        await peer.socket.send(frame)
        assert await peer.until_closed() == 1003
    assert [(error.code, error.fatal) for error in peer.of(m.Error)] == [("wrong_frame", True)]


async def test_a_frame_that_is_too_large() -> None:
    async with serving(max_frame_bytes=10_000) as service, talking(service) as peer:
        await peer.tell(m.Audio(0, bytes(9_000)))
        await peer.tell(m.Audio(4_500, bytes(10_000)))
        assert await peer.until_closed() == 1009


@pytest.mark.parametrize("message", [m.Audio(0, b"\0\0"), m.End(0), m.Ask("q", "What?")])
async def test_start_comes_first(message: m.ClientMessage) -> None:
    async with serving() as service, connected(service) as peer:
        await peer.tell(message)
        assert await peer.until_closed() == 4404
    assert [(error.code, error.fatal) for error in peer.of(m.Error)] == [("no_session", True)]


async def test_what_is_refused_before_start_leaves_the_connection_open_and_names_no_request() -> None:
    cannot_be_decoded = (
        '{"type":"ask","id":"q"}',
        '{"type":"ask","id":"q","text":"\\ud800"}',
        '{"type":"gap","offset":"x"}',
    )
    async with serving() as service, connected(service, JSON) as peer:
        for frame in cannot_be_decoded:
            await peer.socket.send(frame)
        await peer.tell(m.Start())
        await peer.until(m.Ready)
    errors = [(error.code, error.fatal, error.ref) for error in peer.of(m.Error)]
    assert errors == [("bad_message", False, None), ("bad_text", False, None), ("bad_offset", False, None)]


@pytest.mark.parametrize("start", [m.Start(rate=0), m.Start(rate=10**9), m.Start(channels=9)])
async def test_a_format_that_is_not_taken(start: m.Start) -> None:
    async with serving() as service, connected(service) as peer:
        await peer.tell(start)
        assert await peer.until_closed() == 4422
    assert [error.code for error in peer.of(m.Error)] == ["bad_format"]


@pytest.mark.parametrize("opened", [False, True])
async def test_who_is_silent_for_long(opened: bool) -> None:
    timeout = {"idle_timeout_s": 0.1} if opened else {"open_timeout_s": 0.1}
    async with serving(**timeout) as service, connected(service) as peer:
        if opened:
            await peer.tell(m.Start())
        assert await peer.until_closed() == 4408
        assert service.metrics.registry.get_sample_value("af3stream_refusals_total", {"code": "idle_timeout"}) == 1
    assert [(error.code, error.retryable) for error in peer.of(m.Error)] == [("idle_timeout", True)]


async def test_what_is_refused_before_start_wins_no_time() -> None:
    nonsense = '{"type":"ask","id":"q","text":"\\ud800"}'
    async with serving(open_timeout_s=0.2) as service, connected(service, JSON) as peer:
        await peer.socket.send(nonsense)
        assert await peer.until_closed() == 4408
    assert [(error.code, error.fatal) for error in peer.of(m.Error)] == [("bad_text", False), ("idle_timeout", True)]


async def test_who_waits_for_an_answer_is_not_silent_for_too_long() -> None:
    async with serving(engine=SlowEngine(0.5), idle_timeout_s=0.1) as service, talking(service) as peer:
        await peer.tell(m.Audio(0, SPEECH[:BLOCK]), m.Ask("q", "What was said?"))
        assert await peer.until_closed() == 4408  # in the end
    assert [answer.id for answer in peer.of(m.Answer)] == ["q"]


# ---- who does not read -----------------------------------------------------------------------------------------------

BULK = 100_000  # characters of a question that is answered with itself


async def flood_with_answers(service: Service, peer: Peer) -> None:
    """Ask for more than any buffer holds, without reading, until the server has had enough."""
    slow = "af3stream_refusals_total"
    await speak(peer)
    async with asyncio.timeout(PATIENCE_S):
        for number in range(1_000):
            await peer.tell(m.Ask(f"q{number}", "x" * BULK))
            await asyncio.sleep(0.005)
            if service.metrics.registry.get_sample_value(slow, {"code": "slow_consumer"}):
                return
    raise AssertionError("the server never had enough")


def bulky() -> dict[str, object]:
    return {"questions": QuestionsConfig(max_chars=BULK, per_s=1_000), "outgoing_messages": 16}


async def test_who_never_reads_again_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "GOODBYE_S", 0.05)
    async with serving(**bulky()) as service, talking(service, max_queue=1) as peer:
        await flood_with_answers(service, peer)
        await settled(service)
        assert service.sessions == 0
        peer.socket.transport.abort()


# ---- coming and going ------------------------------------------------------------------------------------------------


async def test_a_peer_that_vanishes_leaves_nothing_behind() -> None:
    engine = SlowEngine(0.2)
    async with serving(engine) as service:
        async with talking(service) as peer:
            await speak(peer)
            await peer.tell(m.Flush("f"))
            await peer.until(m.Flushed)
            assert await asyncio.to_thread(engine.encoding.wait, PATIENCE_S)
            peer.socket.transport.abort()  # while its window is encoded
        await settled(service)
        async with asyncio.timeout(PATIENCE_S):
            while not engine.counters.sounds_encoded:  # noqa: ASYNC110 - the engine has no reason to tell
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # by now that was reported, to nobody
        assert engine.counters.sounds_encoded == 1 and engine.contexts == 0
        async with talking(service) as peer:
            await peer.tell(m.End(0))
            await peer.until(m.Ended)


async def test_a_shutdown_delivers_what_was_heard_and_says_goodbye() -> None:
    async with AsyncExitStack() as peers:
        async with serving() as service:
            peer = await peers.enter_async_context(talking(service))
            idle = await peers.enter_async_context(connected(service))
            await speak(peer)
            while (await peer.until(m.Ack)).received < FRAMES:
                pass
            closing = asyncio.gather(peer.until_closed(), idle.until_closed())
        assert await closing == [1012, 1012]
    assert peer.finals
    assert [error.code for error in peer.of(m.Error)] == ["shutting_down"]
    assert [error.code for error in idle.of(m.Error)] == ["shutting_down"]


async def test_a_shutdown_does_not_wait_for_ever() -> None:
    async with AsyncExitStack() as peers:
        async with serving(SlowEngine(0.5), drain_s=0.1) as service:
            peer = await peers.enter_async_context(talking(service))
            await speak(peer)
            await peer.tell(m.Flush("f"))
            await peer.until(m.Flushed)
            closing = asyncio.create_task(peer.until_closed())
        assert await closing == 1012
    assert not peer.of(m.Ended)
    assert [(error.code, error.fatal, error.retryable) for error in peer.of(m.Error)] == [("shutting_down", True, True)]


async def test_a_busy_port() -> None:
    async with serving() as service:
        config = ServerConfig(port=service.port)
        with pytest.raises(SourceError, match=f"cannot listen on 127.0.0.1:{service.port}"):
            check_address(config)
        with pytest.raises(SourceError, match="in use"):
            await serving(port=service.port).__aenter__()


# ---- features --------------------------------------------------------------------------------------------------------


async def test_a_client_that_lists_no_features_is_sent_what_the_first_version_had() -> None:
    async with serving() as service, talking(service) as peer:
        await peer.tell(m.Audio(0, SPEECH[: 2 * RATE]), m.Ask("q", "What?"))
        answer = await peer.until(m.Answer)
        assert (answer.question, answer.heard_until) == ("", None)
        assert peer.of(m.Ready)[0].features == ()


async def test_a_client_is_sent_what_it_lists_and_told_of_all_there_is() -> None:
    start = m.Start(features=(FOLLOW_UPS, "of_another_server"))
    async with serving() as service, talking(service, start) as peer:
        await peer.tell(m.Audio(0, SPEECH[: 2 * RATE]), m.Ask("q", "What?"), m.Ask("r", "And why?", after="q"))
        await peer.until(m.Answer)
        answer = await peer.until(m.Answer)
        assert (answer.question, answer.after, answer.heard_until) == ("And why?", "q", None)
        assert peer.of(m.Ready)[0].features == FEATURES


async def test_a_client_that_resumes_lists_its_own_features(tmp_path: Path) -> None:
    async with serving(journal=tmp_path) as service:
        async with talking(service) as first:
            await first.tell(m.Audio(0, SPEECH[: 2 * RATE]), m.Ask("q", "What?"))
            assert (await first.until(m.Answer)).question == ""
            token = first.of(m.Ready)[0].resume
        async with talking(service, m.Start(resume=token, features=FEATURES)) as second:
            answer = await second.until(m.Answer)
            assert answer.question == "What?" and answer.heard_until
            await second.tell(m.Ask("r", "And why?", after=answer.event))
            assert (await second.until(m.Answer)).after == answer.event


async def test_a_follow_up_to_nothing_is_refused_and_the_session_goes_on() -> None:
    async with serving() as service, talking(service) as peer:
        await peer.tell(m.Ask("q", "And why?", after="nothing"))
        error = await peer.until(m.Error)
        assert (error.code, error.ref, error.fatal) == ("unknown_question", "q", False)
        await still_there(peer)
