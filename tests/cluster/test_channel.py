"""A link sends messages in batches. It stops when the receiver has to grant more bytes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from af3stream.cluster import wire
from af3stream.cluster.engine_link import READS, EngineLink
from af3stream.engine.contract import AudioSegment, Text
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import AnswerJob, CaptionJob
from af3stream.engine.scripted import ScriptedEngine
from tests.cluster.links import KEY, QUICK, Running, Timeline, Told
from tests.cluster.test_engine_link import AUDIO
from tests.cluster.test_link_failures import Wordy, raw


class RawEngine:
    """Takes frames, and does nothing.

    Attributes:
        frames: what came, in bytes.
        socket: where it came.
    """

    def __init__(self, credit: int) -> None:
        self.frames: list[bytes] = []
        self.socket: ServerConnection
        self._credit = credit

    @asynccontextmanager
    async def linked(self, coalesce_ms: int = 60_000) -> AsyncIterator[EngineLink]:
        """A gateway's link to it."""
        config = replace(QUICK, coalesce_ms=coalesce_ms)
        async with serve(self._take, "127.0.0.1", 0, subprotocols=[wire.SUBPROTOCOL], max_size=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            link = await EngineLink.connect(f"127.0.0.1:{port}", KEY, "gateway", config)
            yield link
            self.socket.transport.abort()

    async def _take(self, socket: ServerConnection) -> None:
        self.socket = socket
        await socket.recv()
        welcome = wire.Welcome(facts_of(ScriptedEngine()), wire.EngineLoad(), 1_000_000, self._credit)
        await socket.send(wire.frame([wire.encode(welcome)]))
        try:
            async for frame in socket:
                assert isinstance(frame, bytes)
                self.frames.append(frame)
        except ConnectionClosed:
            pass

    async def grant(self, count: int) -> None:
        """Say that it has processed so many bytes."""
        await self.socket.send(wire.frame([wire.encode(wire.Credit(count))]))

    @property
    def messages(self) -> list[list[str]]:
        """The kinds of messages in each frame."""
        return [[type(message).__name__ for message in wire.from_gateway.decode(frame)] for frame in self.frames]


def caption(second: int, *, final: bool = False) -> CaptionJob:
    start = 16_000 * second
    return CaptionJob(second, AUDIO.at(start, start + 16_000), None, final=final, max_tokens=9, start=start)


async def test_messages_that_nobody_waits_for_are_sent_together() -> None:
    engine, told = RawEngine(1 << 20), Told()
    async with engine.linked(coalesce_ms=500) as link:
        link.open("s", AUDIO, told.resident)
        for second in range(3):
            link.submit("s", caption(second), told.report)
            await asyncio.sleep(0.01)
        link.detach("s")
        assert not engine.frames
        await told.until(lambda: bool(engine.frames))
    assert engine.messages == [["Open", "Submit", "Submit", "Submit", "Detach"]]


async def test_finals_questions_cancels_and_closes_are_sent_at_once() -> None:
    engine, told, ask = RawEngine(1 << 20), Told(), AnswerJob((Text("Hello."),), "What?", 9)
    async with engine.linked() as link:
        link.open("s", AUDIO, told.resident)
        for act in (
            lambda: link.submit("s", caption(0, final=True), told.report),
            lambda: link.submit("s", ask, told.report),
            lambda: link.cancel("s", ask.id),
            lambda: link.close("s"),
        ):
            count = len(engine.frames)
            act()
            await told.until(lambda count=count: len(engine.frames) > count)  # type: ignore[misc]
    assert engine.messages == [["Open", "Submit"], ["Submit"], ["Cancel"], ["Close"]]


async def test_a_gateway_sends_no_more_than_the_engine_has_room_for() -> None:
    engine, told, credit = RawEngine(200_000), Told(), 200_000
    async with engine.linked() as link:
        link.open("s", AUDIO, told.resident)
        for second in range(10):
            link.submit("s", caption(second, final=True), told.report)
        await asyncio.sleep(0.3)
        sent = sum(map(len, engine.frames))
        assert 64_000 < sent <= credit
        while sum(map(len, engine.messages)) < 11:
            await engine.grant(sum(map(len, engine.frames)) - sent + 64_000)
            sent = sum(map(len, engine.frames))
            await told.until(lambda sent=sent: sum(map(len, engine.frames)) > sent)  # type: ignore[misc]


async def test_older_audio_is_read_only_as_fast_as_it_is_sent() -> None:
    engine, told, audio = RawEngine(credit=1), Told(), Timeline()
    windows = [AudioSegment(at, at + 160_000, 250) for at in range(0, 1_600_000, 160_000)]
    async with engine.linked(coalesce_ms=0) as link:
        link.open("s", audio, told.resident)
        await told.until(lambda: bool(engine.frames))  # which it never says that it has processed
        reads = [wire.Read("s", 0, 0, number, window) for number, window in enumerate(windows)]
        await engine.socket.send(wire.frame([wire.encode(read) for read in reads]))
        await told.until(lambda: link.fullness > 0)
        await asyncio.sleep(0.3)
        assert len(audio.reads) <= READS
        for _ in windows:
            await engine.grant(10_000_000)
            await asyncio.sleep(0.02)
        await told.until(lambda: len(audio.reads) == len(windows))


async def test_an_engine_sends_no_more_than_a_gateway_has_room_for() -> None:
    hello = wire.Hello("raw", 250_000)
    async with Running(Wordy()) as running, raw(running, hello) as socket:
        frames, sizes = [], []
        opened = wire.Open("s", 0, 0, 0, rereads=True)
        jobs = [replace(caption(0, final=True), samples=AUDIO.at(0, 0)) for _ in range(10)]
        submits = [wire.Submit("s", 0, 0, number + 1, job, ((0, 0),), ()) for number, job in enumerate(jobs)]
        await socket.send(wire.frame([wire.encode(message) for message in (opened, *submits)]))
        try:
            async with asyncio.timeout(0.5):
                while True:
                    frames.append(await socket.recv())
                    sizes.append(len(frames[-1]))
        except TimeoutError:
            pass
        assert 100_000 < sum(sizes) <= 250_000 + 1_000  # grants of credit are not counted
        await socket.send(wire.frame([wire.encode(wire.Credit(10_000_000))]))
        async with asyncio.timeout(5):
            assert len(await socket.recv()) > 100_000
