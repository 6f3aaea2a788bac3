"""Captions and answers of the embedded checkpoint are the same through a gateway and an engine as in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import soundfile

from af3stream.client import connect
from af3stream.cluster.engine_address import EngineAddress
from af3stream.cluster.engine_server import EngineServer
from af3stream.config import Config, EngineConfig, JournalConfig, ServerConfig
from af3stream.engine.factory import Loaded
from af3stream.engine.worker import Worker
from af3stream.protocol import messages as m
from af3stream.server.cluster_backend import joined
from af3stream.server.service import Service

pytestmark = [pytest.mark.mini, pytest.mark.slow]

QUIET_S = 3.0  # without a step of the engine; a step takes less
KEY = "the key of the engine"
QUESTIONS = ("What was said about the young man?", "Who is cold hearted?")
Heard = tuple[list[tuple[int, str, float, float]], list[str]]


async def heard(service: Service, recording: Path) -> Heard:
    """The final captions of a recording that is longer than a window, and the answers about all of it."""
    pcm = soundfile.read(recording, dtype="int16")[0].tobytes()
    said: list[m.ServerMessage] = []

    async with connect(service.address, interims=False) as session:

        async def read() -> None:
            async for message in session:
                said.append(message)

        reading = asyncio.create_task(read())
        await session.send(pcm)
        await session.flush()
        await idle(service)
        answers = [(await session.ask(question, max_tokens=24)).text for question in QUESTIONS]
        await session.end()
        await reading
    finals = [message for message in said if isinstance(message, m.Caption) and message.final]
    return [(final.utterance, final.text, final.start, final.end) for final in finals], answers


async def idle(service: Service) -> None:
    """Wait until the engine has nothing to do: windows are captioned once more, and read."""
    busy_s = -1.0
    while busy_s != service.backend.busy_s:
        busy_s = service.backend.busy_s
        await asyncio.sleep(QUIET_S)


@asynccontextmanager
async def gateway(loaded: Loaded, folder: Path) -> AsyncIterator[Service]:
    """A gateway without a model, linked to an engine that has it."""
    engine = EngineConfig(kind="ray")
    config = Config(ServerConfig(port=0), journal=JournalConfig(folder=str(folder), shared=True), engine=engine)
    worker = Worker(loaded.engine)
    worker.start()
    try:
        async with EngineServer(worker, loaded.facts, KEY, engine).listening("127.0.0.1") as server:
            address = EngineAddress("e", f"127.0.0.1:{server.port}", KEY, "all", 0)

            async def watch(seen: Callable[[list[EngineAddress]], None]) -> None:
                seen([address])
                await asyncio.Event().wait()

            async with joined(config, watch) as backend, Service(config, backend).listening() as service:
                yield service
    finally:
        worker.stop()


async def test_finals_and_answers_equal_those_of_one_process(mini: Loaded, recording: Path, tmp_path: Path) -> None:
    config = Config(ServerConfig(port=0), journal=JournalConfig(folder=str(tmp_path / "one")))
    async with Service(config, mini).listening() as service:
        finals, answers = await heard(service, recording)
    async with gateway(mini, tmp_path / "two") as service:
        assert await heard(service, recording) == (finals, answers)
    assert len(finals) >= 5
    assert all(answers)
