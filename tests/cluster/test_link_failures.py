"""What goes wrong between a gateway and an engine: nothing is reported twice, and the engine goes on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from af3stream.cluster import wire
from af3stream.cluster.audio_window import packed
from af3stream.cluster.engine_link import EngineLink, LinkError
from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.contract import Text
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedEngine
from af3stream.engine.worker import Worker
from tests.chaos.proxy import Proxy
from tests.cluster.links import KEY, QUICK, Running, Timeline, Told, linked
from tests.cluster.test_engine_link import AUDIO, Gated, segment

HELLO = wire.Hello("raw", 1 << 20)


@asynccontextmanager
async def raw(running: Running, hello: wire.Hello = HELLO) -> AsyncIterator[ClientConnection]:
    """A gateway that sends what it likes, after it said hello."""
    async with connect(
        f"ws://{running.address}",
        subprotocols=[wire.SUBPROTOCOL],
        additional_headers={"Authorization": f"Bearer {KEY}"},
        max_size=None,
        proxy=None,
    ) as socket:
        await socket.send(wire.frame([wire.encode(hello)]))
        assert isinstance(wire.from_engine.decode(await socket.recv())[0], wire.Welcome)
        yield socket


async def works(link: EngineLink) -> None:
    """Check that an engine answers another gateway."""
    told, job = Told(), AnswerJob((Text("Hello."),), "What?", 9)
    link.open("other", AUDIO, told.resident)
    link.submit("other", job, told.report)
    await told.finished(job)
    link.close("other")


# ---- strangers -------------------------------------------------------------------------------------------------------


async def test_a_wrong_key_is_refused() -> None:
    async with Running() as running:
        with pytest.raises(LinkError, match="401"):
            await EngineLink.connect(running.address, "guessed", "gateway", QUICK)


async def test_a_gateway_of_another_version_is_refused() -> None:
    async with Running() as running:
        with pytest.raises(InvalidStatus, match="400"):
            async with connect(
                f"ws://{running.address}", additional_headers={"Authorization": f"Bearer {KEY}"}, proxy=None
            ):
                pass


async def test_an_address_without_an_engine_is_an_error() -> None:
    async with Running() as running:
        address = running.address
    with pytest.raises(LinkError, match=address):
        await EngineLink.connect(address, KEY, "gateway", QUICK)


async def test_connection_to_what_is_no_engine_is_closed() -> None:
    closed = asyncio.Event()

    async def speak_otherwise(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send("hello")
        await socket.wait_closed()
        closed.set()

    async with serve(speak_otherwise, "127.0.0.1", 0, subprotocols=[wire.SUBPROTOCOL]) as server:
        address = f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        with pytest.raises(LinkError, match=address):
            await EngineLink.connect(address, KEY, "gateway", QUICK)
        async with asyncio.timeout(5):
            await closed.wait()


# ---- load ------------------------------------------------------------------------------------------------------------


async def reported(link: EngineLink) -> wire.EngineLoad:
    """The next load that the engine reports."""
    before = link.load
    await Told().until(lambda: link.load is not before)
    return link.load


async def test_load_is_reported_again_after_it_could_not_be_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked() as (_, link):
        with monkeypatch.context() as broken:
            broken.setattr(Worker, "kv_bytes", property(lambda _: 1 // 0))
            await Told().until(lambda: "gateways are not told the load" in caplog.text)
        await reported(link)


async def test_engine_that_drained_takes_sessions_again() -> None:
    async with linked() as (running, link):
        running.server.drain()
        assert (await reported(link)).draining
        running.server.resume()
        assert not (await reported(link)).draining


class Wordy(ScriptedEngine):
    """Its captions are long."""

    def __init__(self) -> None:
        super().__init__()
        self.captioner = WordyCaptioner(self.counters)


class WordyCaptioner(ScriptedCaptioner):
    """Says 100 kB."""

    def hear(self, request: CaptionRequest) -> Hypothesis:
        return Hypothesis("word " * 20_000)


OPEN = wire.Open("s", 0, 0, 0, rereads=True)
CAPTION = CaptionJob(0, AUDIO.at(0, 0), None, final=True, max_tokens=9)
BROKEN = {
    "garbage": os.urandom(99),
    "empty": b"",
    "text": "hello",
    "no list": wire.encode(OPEN),
    "an unknown message": msgspec.msgpack.encode([{"type": "Shutdown"}]),
    "an engine's message": wire.frame([wire.encode(wire.EngineLoad())]),
    "a second hello": wire.frame([wire.encode(HELLO)]),
    "a message left out": wire.frame([wire.encode(OPEN), wire.encode(wire.Attach("s", 0, 0, 2))]),
    "a session that begins later": wire.frame([wire.encode(wire.Open("s", 0, 0, 1, rereads=True))]),
    "samples that were not sent": wire.frame(
        [wire.encode(OPEN), wire.encode(wire.Submit("s", 0, 0, 1, CAPTION, ((0, 16_000),), ()))]
    ),
    "a job without its ranges": wire.frame(
        [wire.encode(OPEN), wire.encode(wire.Submit("s", 0, 0, 1, CAPTION, (), ()))]
    ),
}


@pytest.mark.parametrize("frame", BROKEN.values(), ids=BROKEN)
async def test_a_broken_frame_closes_its_connection_and_the_engine_goes_on(frame: bytes | str) -> None:
    async with linked() as (running, link):
        async with raw(running) as socket:
            with suppress(ConnectionClosed):
                await socket.send(frame)
                async with asyncio.timeout(5):
                    while True:
                        await socket.recv()
            assert socket.close_code == 1002
        await works(link)


async def test_a_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    async with linked() as (running, link):
        async with raw(running) as socket:
            length = (wire.MAX_FRAME_BYTES + 1).to_bytes(8, "big")
            socket.transport.write(b"\x82\xff" + length + bytes(4))  # a binary frame, its length, its mask
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(5):
                    while True:
                        await socket.recv()
            assert socket.close_code == 1009
        await works(link)


async def test_a_gateway_must_say_hello_first() -> None:
    async with linked() as (running, link):
        async with connect(
            f"ws://{running.address}",
            subprotocols=[wire.SUBPROTOCOL],
            additional_headers={"Authorization": f"Bearer {KEY}"},
            proxy=None,
        ) as socket:
            await socket.send(wire.frame([wire.encode(OPEN)]))
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        await works(link)


async def test_a_segment_with_too_few_samples_is_refused() -> None:
    window = segment(0, 4)
    async with linked() as (running, link):
        async with raw(running) as socket:
            ask = wire.Submit("s", 0, 0, 1, AnswerJob((window,), "What?", 9), (), ())
            await socket.send(wire.frame([wire.encode(OPEN), wire.encode(ask)]))
            while not any(isinstance(read, wire.Read) for read in wire.from_engine.decode(await socket.recv())):
                pass
            short = wire.Samples("s", 0, 0, 2, window, packed(0, AUDIO.at(0, 10)))
            await socket.send(wire.frame([wire.encode(short)]))
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(5):
                    while True:
                        await socket.recv()
        await works(link)


# ---- lost links ------------------------------------------------------------------------------------------------------


async def test_a_broken_link_is_told_once_and_reports_nothing_more() -> None:
    engine, told, lost = Gated(), Told(), list[bool]()
    first, second = AnswerJob((), "one two three", 9), AnswerJob((), "Next?", 9)
    async with Running(engine) as running:
        proxy = Proxy(lambda: running.server.port)
        async with proxy.listening():
            link = await EngineLink.connect(f"127.0.0.1:{proxy.port}", KEY, "gateway", QUICK)
            link.on_lost(lambda: lost.append(True))
            link.open("s", AUDIO, told.resident)
            link.submit("s", first, told.report)
            await told.until(lambda: bool(told.of(first)))
            proxy.cut()
            await told.until(lambda: bool(lost))
            engine.gate.set()
            link.submit("s", second, told.report)  # nor does anything happen if the session does not know yet
            link.cancel("s", first.id)
            link.close("s")
        again = await running.link()
        again.open("s", AUDIO, told.resident)
        again.submit("s", first, told.report)
        await told.finished(first)
        await again.disconnect()
    assert told.of(first) == [
        ("one", False),
        *[(word, False) for word in ("one", " two", " three", " <-")],
        (told.of(first)[-2][0], False),
        (None, True),
    ]
    assert (lost, told.of(second)) == ([True], [])


async def test_an_engine_that_does_not_answer_is_lost() -> None:
    lost = asyncio.Event()
    async with Running() as running:
        proxy = Proxy(lambda: running.server.port)
        async with proxy.listening():
            config = replace(QUICK, lost_after_s=0.5)
            link = await EngineLink.connect(f"127.0.0.1:{proxy.port}", KEY, "gateway", config)
            link.on_lost(lost.set)
            proxy.ways["up"].open.clear()
            proxy.ways["down"].open.clear()
            async with asyncio.timeout(3):
                await lost.wait()
            for way in proxy.ways.values():
                way.open.set()


async def test_a_disconnected_link_is_not_lost() -> None:
    lost: list[bool] = []
    async with Running() as running:
        link = await running.link()
        link.on_lost(lambda: lost.append(True))
        await link.disconnect()
    assert not lost


async def test_a_gateway_that_reads_nothing_is_given_up_and_the_engine_keeps_little() -> None:
    told, config = Told(), replace(QUICK, queue_mb=1, credit_mb=1)
    async with linked(Wordy(), config=config) as (running, link):
        async with raw(running) as socket:
            assert "raw" in running.server._gateways
            await socket.send(wire.frame([wire.encode(OPEN)]))
            socket.transport.pause_reading()
            for number in range(1, 100):
                submit = wire.Submit("s", 0, 0, number, replace(CAPTION, id=number), ((0, 0),), ())
                await socket.send(wire.frame([wire.encode(submit)]))
            await told.until(lambda: "raw" not in running.server._gateways)
            socket.transport.abort()
        await works(link)


async def test_caches_of_a_lost_gateway_are_kept_for_a_while() -> None:
    told = Told()
    async with Running(config=replace(QUICK, keep_s=0.3)) as running:
        link = await running.link()
        link.open("s", AUDIO, told.resident)
        job = EncodeJob(0, segment(0, 4), AUDIO.at(0, 64_000))
        link.submit("s", job, told.report)
        await told.finished(job)
        await link.disconnect()
        assert running.worker.sessions == 1
        await told.until(lambda: running.worker.sessions == 0 and running.worker.embedding_bytes == 0)


async def test_a_mistake_in_a_report_loses_the_link_and_nothing_else() -> None:
    lost = asyncio.Event()

    def mistaken(*_: object) -> None:
        raise ZeroDivisionError

    async with Running() as running:
        link = await running.link()
        link.on_lost(lost.set)
        link.open("s", AUDIO, mistaken)
        link.submit("s", AnswerJob((), "What?", 9), mistaken)
        async with asyncio.timeout(5):
            await lost.wait()
        again = await running.link()
        await works(again)
        await again.disconnect()


async def test_a_session_of_a_lost_gateway_goes_on_with_its_caches() -> None:
    told, after, windows = Told(), Told(), (segment(0, 4), segment(4, 8))
    async with Running(config=replace(QUICK, keep_s=0.5)) as running:
        old = await running.link("old")
        old.open("s", AUDIO, told.resident, fence=1)
        extend, again = (ExtendJob(windows, rebuild=False) for _ in range(2))
        old.submit("s", extend, told.report)
        await told.finished(extend)
        read = running.engine.counters.prefill_tokens
        await old.disconnect()
        new = await running.link("new")
        new.open("s", AUDIO, after.resident, fence=2)
        new.submit("s", again, after.report)
        await after.finished(again)
        assert running.engine.counters.prefill_tokens == read
        assert after.residents[0] == set(windows)
        await asyncio.sleep(0.7)  # until it would have been dropped
        assert running.worker.sessions == 1
        await new.disconnect()


async def test_late_frames_of_an_earlier_connection_do_not_take_its_session_back() -> None:
    async with Running() as running, raw(running) as socket:
        await socket.send(wire.frame([wire.encode(OPEN)]))
        sessions, gateways = running.server._sessions, running.server._gateways
        earlier, told = gateways["raw"], Told()
        async with raw(running) as again:
            await again.send(wire.frame([wire.encode(replace(OPEN, opening=1))]))
            await told.until(lambda: sessions.get("s") is not None and sessions["s"].opening == 1)
            earlier.receive(OPEN)
            assert sessions["s"].gateway is gateways["raw"]


# ---- two gateways ----------------------------------------------------------------------------------------------------


async def test_two_gateways_share_an_engine() -> None:
    async with Running() as running:
        links = [await running.link(name) for name in ("one", "two")]
        tolds = [Told(), Told()]
        jobs = [[AnswerJob((Text(f"{name} {i}"),), "What?", 9) for i in range(20)] for name in "ab"]
        for link, told, own, session in zip(links, tolds, jobs, "ab", strict=True):
            link.open(session, AUDIO, told.resident)
            for job in own:
                link.submit(session, job, told.report)
        for told, own in zip(tolds, jobs, strict=True):
            await told.finished(*own)
            assert {job.id for job, _, _ in told.results} == {job.id for job in own}
        await tolds[0].until(lambda: links[0].load.sessions == 2)
        for link in links:
            await link.disconnect()


async def test_a_higher_fence_takes_a_session_over_with_its_caches() -> None:
    told, after, windows = Told(), Told(), [segment(0, 4), segment(4, 8)]
    gone: list[str] = []
    async with Running() as running:
        old, new = await running.link("old"), await running.link("new")
        old.on_superseded(gone.append)
        old.open("s", AUDIO, told.resident, fence=3)
        jobs = [EncodeJob(i, window, AUDIO.read(window)) for i, window in enumerate(windows)]
        extend = ExtendJob(tuple(windows), rebuild=False)
        for job in (*jobs, extend):
            old.submit("s", job, told.report)
        await told.finished(extend)
        read = running.engine.counters.prefill_tokens
        new.open("s", AUDIO, after.resident, fence=4)
        again, ask = ExtendJob(tuple(windows), rebuild=False), AnswerJob(tuple(windows), "What?", 9, prefix=2)
        for job in (again, ask):
            new.submit("s", job, after.report)
        await after.finished(again, ask)
        assert running.engine.counters.prefill_tokens == read
        assert after.residents[0] == set(windows)
        await told.until(lambda: gone == ["s"])
        late = AnswerJob((), "Late?", 9)
        old.submit("s", late, told.report)
        old.close("s")
        await asyncio.sleep(0.1)
        assert running.worker.sessions == 1
        assert told.of(late) == []
        for link in (old, new):
            await link.disconnect()


async def test_jobs_of_the_gateway_before_are_not_reported_to_anybody() -> None:
    engine, told, after, gone = Gated(), Told(), Told(), list[str]()
    job = AnswerJob((), "one two three", 9)
    async with Running(engine) as running:
        old, new = await running.link("old"), await running.link("new")
        old.on_superseded(gone.append)
        old.open("s", AUDIO, told.resident)
        old.submit("s", job, told.report)
        await told.until(lambda: bool(told.of(job)))
        new.open("s", AUDIO, after.resident, fence=1)
        other = AnswerJob((), "Next?", 9)
        new.submit("s", other, after.report)
        await told.until(lambda: gone == ["s"])
        engine.gate.set()
        await after.finished(other)
        assert told.of(job) == [("one", False)]
        assert after.of(job) == []
        for link in (old, new):
            await link.disconnect()


@pytest.mark.parametrize("fence", [1, 2])
async def test_a_fence_that_is_not_higher_is_refused(fence: int) -> None:
    told, gone = Told(), list[str]()
    async with Running() as running:
        holder, late = await running.link("holder"), await running.link("late")
        late.on_superseded(gone.append)
        holder.open("s", AUDIO, told.resident, fence=2)
        job = AnswerJob((), "What?", 9)
        holder.submit("s", job, told.report)
        await told.finished(job)
        late.open("s", AUDIO, told.resident, fence=fence)
        await told.until(lambda: gone == ["s"])
        again = AnswerJob((), "Still?", 9)
        holder.submit("s", again, told.report)
        await told.finished(again)
        for link in (holder, late):
            await link.disconnect()


async def test_a_connection_replaces_an_earlier_one_of_the_same_gateway() -> None:
    told, lost = Told(), asyncio.Event()
    async with Running() as running:
        first = await running.link("gateway")
        first.on_lost(lost.set)
        first.open("s", AUDIO, told.resident)
        second = await running.link("gateway")
        async with asyncio.timeout(5):
            await lost.wait()
        second.open("s", AUDIO, told.resident)
        job = AnswerJob((), "What?", 9)
        second.submit("s", job, told.report)
        await told.finished(job)
        await second.disconnect()


async def test_a_read_under_way_ends_with_its_link() -> None:
    told, gate, audio = Told(), threading.Event(), Timeline()
    audio.before_read = gate.wait  # type: ignore[assignment]
    async with Running() as running:
        link = await running.link()
        link.open("s", audio, told.resident)
        link.submit("s", AnswerJob((segment(0, 4),), "What?", 9), told.report)
        await asyncio.sleep(0.1)
        await link.disconnect()
        gate.set()
        again = await running.link()
        await works(again)
        await again.disconnect()
