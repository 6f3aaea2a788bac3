"""The real thing: `mini`, on a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3stream import offline
from af3stream.config import Config, load
from af3stream.engine.factory import Loaded
from af3stream.protocol.messages import Caption
from af3stream.server.service import Service
from tests.conftest import RECORDINGS
from tests.openai_wire.conftest import clients_python, node_modules, run_client
from tests.openai_wire.test_browser import bundle

__all__ = ["bundle", "clients_python", "node_modules", "run_client"]  # fixtures

PAUSE_S = 1.0


@dataclass(frozen=True)
class RunningService:
    """Where a service can be reached, and what it runs on."""

    http: str
    ws: str
    config: Config
    loaded: Loaded

    @property
    def port(self) -> int:
        """On the loopback address."""
        return int(self.http.rpartition(":")[2])


@pytest.fixture(scope="session")
def service(mini: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with the real model that keeps sessions, on a thread of its own."""
    config = load(overrides=("server.port=0", f"journal.folder={tmp_path_factory.mktemp('journal')}"))
    running = threading.Event()
    stop: asyncio.Event
    loop: asyncio.AbstractEventLoop
    address = ""

    async def serve() -> None:
        nonlocal stop, loop, address
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        async with Service(config, mini).listening() as listening:
            address = listening.address
            running.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert running.wait(30)
    yield RunningService(address, address.replace("http", "ws") + "/v1/stream", config, mini)
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five sample recordings as one file, a second of silence after each."""
    pieces = []
    for path in sorted(RECORDINGS.glob("*.wav")):
        samples, rate = soundfile.read(path, dtype="int16")
        pieces += [samples, np.zeros(int(PAUSE_S * rate), np.int16)]
    path = tmp_path_factory.mktemp("recording") / "recording.wav"
    soundfile.write(path, np.concatenate(pieces), rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def offline_captions(service: RunningService, recording: Path) -> tuple[Caption, ...]:
    """The captions of the recording, read as a file."""
    return offline.transcribe(recording, service.config, service.loaded).captions


@pytest.fixture(scope="session")
def transcript() -> str:
    """What is said in the recordings."""
    lines = (RECORDINGS / "transcription.txt").read_text().splitlines()
    sentences = {line.rpartition("(")[2].rstrip(")"): line.rpartition("(")[0] for line in lines if line.strip()}
    return " ".join(
        sentences[path.stem].replace("<s>", "").replace("</s>", "").strip() for path in sorted(RECORDINGS.glob("*.wav"))
    )
