"""A gateway and its engines in one process, on real sockets: what clients get, with engines that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from af3stream import serving as serving_command
from af3stream.cluster.engine_address import EngineAddress
from af3stream.config import AudioConfig, Config, EngineConfig, JournalConfig, ServerConfig
from af3stream.engine.contract import Engine
from af3stream.engine.scripted import ScriptedEngine
from af3stream.errors import ConfigError
from af3stream.protocol import messages as m
from af3stream.server import cluster_backend
from af3stream.server.cluster_backend import Watch, joined
from af3stream.server.service import Service
from tests.cluster.links import KEY, Running, until
from tests.cluster.test_engine_link import Gated
from tests.openai_wire.realtime_peer import TRANSCRIPTION, realtime, spoken
from tests.openai_wire.test_rest import CHAT, chat, http, post
from tests.server.peers import PATIENCE_S, get, serving, still_there, stream_url, talking
from tests.server.test_admission import refused
from tests.server.test_sessions import FRAMES, RATE, SPEECH, speak

HALF = len(SPEECH) // 2 // 2 * 2


class Membership:
    """The list of a cluster's engines. `watch` reports it to a gateway each time it changes."""

    def __init__(self) -> None:
        self.engines: list[EngineAddress] = []
        self.changed = asyncio.Event()
        self.changed.set()

    def add(self, running: Running, name: str) -> None:
        """An engine has started."""
        self.engines = [*self.engines, EngineAddress(name, running.address, KEY, "all", 1)]
        self.changed.set()

    @property
    def watch(self) -> Watch:
        async def watch(seen: Callable[[list[EngineAddress]], None]) -> None:
            while True:
                await self.changed.wait()
                self.changed.clear()
                seen(self.engines)

        return watch


@dataclass
class Stage:
    """A gateway, and the engine that it began with."""

    service: Service
    membership: Membership
    engine: Running

    async def lose(self) -> None:
        """The engine ends."""
        await self.engine.__aexit__()
        await until(lambda: self.service.backend.engines == 0)


@asynccontextmanager
async def gateway(folder: Path, computes: Engine | None = None, **engine: float) -> AsyncIterator[Stage]:
    config = Config(
        ServerConfig(port=0),
        AudioConfig(window_min_s=3.0),
        journal=JournalConfig(folder=str(folder), shared=True),
        engine=EngineConfig(kind="ray", lost_after_s=5.0, **engine),
    )
    membership, running = Membership(), Running(computes)
    await running.__aenter__()
    membership.add(running, "first")
    async with joined(config, membership.watch) as backend:
        await backend.connected.wait()
        async with Service(config, backend).listening() as service:
            yield Stage(service, membership, running)
    if backend.engines:
        await running.__aexit__()


async def test_cluster_needs_a_shared_journal() -> None:
    with pytest.raises(ConfigError, match="journal that all gateways share"):
        async with joined(Config()):
            pass


async def test_gateway_that_waits_for_its_first_engine_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = asyncio.Event()
    monkeypatch.setattr(serving_command, "_stopping", lambda: stop)
    monkeypatch.setattr(cluster_backend, "watch", lambda *_: asyncio.Event().wait())
    asyncio.get_running_loop().call_later(0.05, stop.set)
    config = Config(ServerConfig(port=0), journal=JournalConfig(folder=str(tmp_path), shared=True))
    async with asyncio.timeout(PATIENCE_S):
        await serving_command._serve_with_cluster(config, None, print)


async def test_links_are_closed_although_the_watcher_failed(tmp_path: Path) -> None:
    failing = asyncio.Event()

    async def watch(seen: Callable[[list[EngineAddress]], None]) -> None:
        seen([EngineAddress("first", running.address, KEY, "all", 1)])
        await failing.wait()
        raise ZeroDivisionError

    config = Config(journal=JournalConfig(folder=str(tmp_path), shared=True))
    async with Running() as running:
        with pytest.raises(ZeroDivisionError):
            async with joined(config, watch):
                await until(lambda: len(running.server._gateways) == 1)
                failing.set()
                await asyncio.sleep(0)
        await until(lambda: not running.server._gateways)


async def test_session_is_captioned_and_answered_as_by_an_embedded_engine(tmp_path: Path) -> None:
    async def told(service: Service) -> list[str]:
        async with talking(service) as peer:
            await speak(peer)
            await peer.tell(m.Flush("f"))
            await peer.until(m.Flushed)
            await peer.tell(m.Ask("q", "What was said?"))
            answer = await peer.until(m.Answer)
            await peer.tell(m.End(FRAMES))
            await peer.until(m.Ended)
        return [*(final.text for final in peer.finals), answer.text]

    async with serving() as embedded, gateway(tmp_path) as stage:
        assert await told(stage.service) == await told(embedded)


async def test_gateway_is_ready_and_admits_sessions_while_it_has_an_engine(tmp_path: Path) -> None:
    async with gateway(tmp_path) as stage:
        assert (await get(stage.service, "/readyz"))[0] == 200
        await stage.lose()
        status, _, body = await get(stage.service, "/readyz")
        assert (status, b"no engine is there" in body) == (503, True)
        assert (await refused(stream_url(stage.service))).status_code == 503


async def test_captions_wait_until_an_engine_is_there_again(tmp_path: Path) -> None:
    async with gateway(tmp_path) as stage, talking(stage.service) as peer:
        await speak(peer, SPEECH[:HALF])
        await still_there(peer)
        before = len(peer.finals)
        await stage.lose()
        await speak(peer, SPEECH[HALF:], HALF // 2)
        await peer.tell(m.End(FRAMES))
        async with Running() as second:
            stage.membership.add(second, "second")
            await peer.until(m.Ended)
        assert [final.utterance for final in peer.finals] == list(range(len(peer.finals)))
        assert len(peer.finals) > before


async def test_question_fails_if_no_engine_comes(tmp_path: Path) -> None:
    async with gateway(tmp_path, wait_s=0.5) as stage, talking(stage.service) as peer:
        await speak(peer)
        await still_there(peer)
        await stage.lose()
        await peer.tell(m.Ask("q", "What was said?"))
        error = await peer.until(m.Error)
        assert (error.code, error.ref) == ("engine_timeout", "q")


async def test_engine_with_another_model_is_not_used(tmp_path: Path) -> None:
    async with gateway(tmp_path) as stage, Running(ScriptedEngine(windows=3)) as other, Running() as second:
        stage.membership.add(other, "other")
        stage.membership.add(second, "second")
        await until(lambda: stage.service.backend.engines == 2)
        assert set(stage.service.backend.jobs.engines) == {"first", "second"}


async def test_metrics_name_every_engine(tmp_path: Path) -> None:
    async with gateway(tmp_path) as stage:
        assert b'af3stream_engine_up{engine="first"} 1.0' in (await get(stage.service, "/metrics"))[2]
        await stage.lose()
        assert b'af3stream_engine_up{engine="first"} 0.0' in (await get(stage.service, "/metrics"))[2]
        stage.membership.engines = []
        stage.membership.changed.set()
        await asyncio.sleep(0.05)
        assert b'engine="first"' not in (await get(stage.service, "/metrics"))[2]


async def test_files_are_captioned_and_asked_about_through_a_gateway(tmp_path: Path) -> None:
    async with serving() as embedded, gateway(tmp_path) as stage:
        texts: list[tuple[str, str]] = []
        for service in (embedded, stage.service):
            async with http(service) as client:
                heard, answer = (await post(client)).json(), (await client.post(CHAT, json=chat())).json()
                texts.append((heard["text"], answer["choices"][0]["message"]["content"]))
        assert texts[0] == texts[1]


async def test_question_about_a_file_goes_on_at_another_engine(tmp_path: Path) -> None:
    gated, texts = Gated(), []
    async with serving() as embedded, gateway(tmp_path, gated) as stage:
        async with http(embedded) as client:
            texts.append((await client.post(CHAT, json=chat())).json()["choices"][0]["message"]["content"])
        async with http(stage.service) as client:
            asking = asyncio.create_task(client.post(CHAT, json=chat()))
            await until(lambda: gated.counters.decoded_tokens > 0)
            async with Running() as second:
                stage.membership.add(second, "second")
                await until(lambda: stage.service.backend.engines == 2)
                asyncio.get_running_loop().call_later(0.5, gated.gate.set)  # so that the lost engine can stop
                await stage.engine.__aexit__()
                texts.append((await asking).json()["choices"][0]["message"]["content"])
        stage.membership.engines = []
    assert texts[0] == texts[1]


async def test_realtime_clients_are_served_and_finish_when_a_gateway_stops(tmp_path: Path) -> None:
    stack = AsyncExitStack()
    stage = await stack.enter_async_context(gateway(tmp_path))
    async with realtime(stage.service, TRANSCRIPTION) as peer:
        await peer.append(spoken(pause_s=0.0))
        await peer.until("speech_started")
        stopping = asyncio.create_task(stack.aclose())
        await peer.until_closed()
        await stopping
    assert " ".join(event["transcript"] for event in peer.of("transcription.completed")).startswith("word1")


async def test_clients_are_sent_away_when_a_gateway_stops(tmp_path: Path) -> None:
    stack = AsyncExitStack()
    stage = await stack.enter_async_context(gateway(tmp_path))
    async with talking(stage.service) as peer:
        await speak(peer, SPEECH[:HALF])
        await still_there(peer)
        told = len(peer.finals)
        await speak(peer, SPEECH[HALF : HALF + RATE], HALF // 2)  # half a second, within an utterance
        stopping = asyncio.create_task(stack.aclose())
        assert await peer.until_closed() == 1012
        await stopping
    assert peer.of(m.Error)[-1].code == "shutting_down"
    assert len(peer.finals) == told  # the utterance goes on at another gateway


async def test_question_that_waits_for_an_engine_fails_in_time_although_its_gateway_stops(tmp_path: Path) -> None:
    stack = AsyncExitStack()
    stage = await stack.enter_async_context(gateway(tmp_path, wait_s=0.5))
    async with talking(stage.service) as peer:
        await speak(peer)
        await still_there(peer)
        await stage.lose()
        await peer.tell(m.Ask("q", "What was said?"))
        await still_there(peer)
        stopping = asyncio.create_task(stack.aclose())
        assert await peer.until_closed() == 1012
        await stopping
    assert [(error.code, error.ref) for error in peer.of(m.Error)] == [("engine_timeout", "q"), ("shutting_down", None)]
