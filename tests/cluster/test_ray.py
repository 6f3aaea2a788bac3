"""A cluster of real processes: Ray's head, two engines and two gateways, on this machine, with the scripted engine.

Engines and gateways are killed while a client streams. The client is told what one server with one engine tells.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest

from af3stream.client import Session, connect
from af3stream.client.errors import AdmissionError
from af3stream.config import AudioConfig, Config, ServerConfig
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine
from af3stream.protocol import messages as m
from af3stream.server.service import Service
from tests.chaos.proxy import Proxy
from tests.cluster.ray_cluster import AUDIO, Gateway, RayCluster, ray_cluster
from tests.server.test_sessions import SPEECH

HALF: Final = len(SPEECH) // 2 // 2 * 2
PATIENCE_S: Final = 120.0


@dataclass
class Told:
    """What a client was told of its session.

    Attributes:
        finals: the final captions.
        answer: of its question.
        streamed: the same, in the pieces as they came.
    """

    finals: list[tuple[int, str, float, float]] = field(default_factory=list)
    answer: str = ""
    streamed: str = ""


class Client:
    """Streams a recording in two halves, each a window, and asks."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.told = Told()
        self._reading = asyncio.create_task(self._read())

    async def stream(self, pcm: bytes) -> None:
        """Stream a part, and wait until it is captioned and encoded, so that a question hears it."""
        await self.session.send(pcm)
        await self.session.flush()
        while self.session.processed < self.session.sent:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def end(self) -> Told:
        """Ask, and end; returns what was told."""
        stream = self.session.ask_stream("What was said?")
        await stream.start()
        self.told.answer = (await stream.answer()).text
        await self.session.end()
        await self._reading
        return self.told

    async def _read(self) -> None:
        async for message in self.session:
            if isinstance(message, m.Caption) and message.final:
                self.told.finals.append((message.utterance, message.text, message.start, message.end))
            elif isinstance(message, m.AnswerDelta):
                self.told.streamed += message.text


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    async with asyncio.timeout(PATIENCE_S), connect(f"http://127.0.0.1:{port}") as session:
        yield Client(session)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(cpus=3) as started:
        engines = started.start_engines("a", 2)
        for _ in range(2):
            started.start_gateway()
        engines.wait_for("is ready", 2)
        for gateway in started.gateways:
            gateway.wait()
            gateway.wait_for("an engine is connected", 2)
        yield started


@pytest.fixture(scope="module")
def expected() -> Told:
    """What one server tells, with the engine in its process."""

    async def alone() -> Told:
        config = Config(ServerConfig(port=0), AudioConfig(**AUDIO))
        service = Service(config, Loaded(ScriptedEngine(), "all", None))
        async with service.listening(), client(service.port) as streaming:
            await streaming.stream(SPEECH[:HALF])
            await streaming.stream(SPEECH[HALF:])
            return await streaming.end()

    return asyncio.run(alone())


def metric(gateway: Gateway, pattern: str) -> list[str]:
    with urlopen(f"http://127.0.0.1:{gateway.port}/metrics") as response:
        return re.findall(pattern, response.read().decode())


async def engine_with_session(gateway: Gateway) -> str:
    """The name of the only engine that has a session."""
    async with asyncio.timeout(PATIENCE_S):
        while len(found := metric(gateway, r'engine_sessions\{engine="(\S+)"\} 1')) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return found[0]


async def full(gateway: Gateway) -> bool:
    """Whether no engine takes another session."""
    try:
        async with connect(f"http://127.0.0.1:{gateway.port}") as session:
            await session.end()
    except AdmissionError:
        return True
    return False


def test_machine_without_room_for_engines_is_named_before_they_start(cluster: RayCluster) -> None:
    refused = cluster.start_engines("many", 9, here=True)
    refused.wait_for("SetupError: the engines take 9 CPUs, this machine has 3")


def test_gateway_loads_no_torch(cluster: RayCluster) -> None:
    for gateway in cluster.gateways:
        assert "libtorch" not in Path(f"/proc/{gateway.pid}/maps").read_text()


async def test_killed_engine_costs_no_word(cluster: RayCluster, expected: Told) -> None:
    gateway = cluster.gateways[0]
    async with client(gateway.port) as streaming:
        await streaming.stream(SPEECH[:HALF])
        engine = await engine_with_session(gateway)
        cluster.kill_engine(engine)
        await streaming.stream(SPEECH[HALF:])
        assert await streaming.end() == expected
    for each in cluster.gateways:
        each.wait_for(f"an engine is connected: engine={engine}", 2)  # Ray has started it again
    assert metric(gateway, r'placements_total\{reason="failover"\} (\S+)') == ["1.0"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_lost_gateway_costs_no_word(cluster: RayCluster, expected: Told, how: signal.Signals) -> None:
    gateways = cluster.gateways
    proxy = Proxy(lambda: gateways[0].port)
    async with proxy.listening(), client(proxy.port) as streaming:
        await streaming.stream(SPEECH[:HALF])
        engine = await engine_with_session(gateways[0])
        lost = gateways.pop(0)
        await asyncio.to_thread(lost.stop, how)
        await streaming.stream(SPEECH[HALF:])
        assert await engine_with_session(gateways[0]) == engine  # its caches are warm
        assert await streaming.end() == expected
    cluster.start_gateway().wait()


async def test_command_takes_over_the_engines_of_one_that_was_killed_while_they_drained(
    cluster: RayCluster, expected: Told
) -> None:
    gateway, killed = cluster.gateways[0], cluster.engines["a"]
    async with client(gateway.port) as streaming:
        await streaming.stream(SPEECH[:HALF])
        os.kill(killed.pid, signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            while not await full(gateway):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        killed.stop(signal.SIGKILL)
        other = cluster.start_engines("a", 2, "captions")
        await asyncio.to_thread(other.wait_for, r"SetupError: engine-a-\d runs with other settings \(role\)")
        await asyncio.to_thread(other.stop, signal.SIGTERM)
        assert await full(gateway)
        ready = len(re.findall("is ready", killed.log))
        await asyncio.to_thread(cluster.start_engines("a", 2).wait_for, "is ready", ready + 2)
        async with client(gateway.port) as second:
            await second.stream(SPEECH[:HALF])
            await second.end()
        await streaming.stream(SPEECH[HALF:])
        assert await streaming.end() == expected


async def test_drained_engine_costs_no_word(cluster: RayCluster, expected: Told) -> None:
    gateway, engines = cluster.gateways[0], cluster.engines["a"]
    async with client(gateway.port) as streaming:
        await streaming.stream(SPEECH[:HALF])
        cluster.start_engines("b", here=True).wait_for("is ready")
        await asyncio.to_thread(engines.stop, signal.SIGTERM)
        assert await engine_with_session(gateway) == "engine-b-1"
        await streaming.stream(SPEECH[HALF:])
        assert await streaming.end() == expected
    assert engines.returncode == 0
