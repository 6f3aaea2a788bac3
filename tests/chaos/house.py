"""A server in a process of its own, that is killed, stopped and started again on the same journal.

``python -m tests.chaos.house`` imports the service once, and forks a server for each folder that a line of its input
names: a start costs a fork.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from af3stream.config import Config, JournalConfig, ServerConfig
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine
from af3stream.server.service import Service

PATIENCE_S = 30.0
SEGMENT_S = 3.0  # of audio in a raw file: histories see files closed and sealed
COMMIT_EVERY_MS = 5
CREDIT_S = 70.0
DRAIN_S = 5.0


class Builder:
    """Makes servers."""

    def __init__(self, orders: IO[str], built: IO[str]) -> None:
        self._orders, self._built = orders, built

    def build(self, folder: Path, shared: bool = False) -> tuple[int, int]:
        """A server that listens, with its journal in a folder; returns its process and its port."""
        print(json.dumps([str(folder), shared]), file=self._orders, flush=True)
        process, port = map(int, self._built.readline().split())
        assert port, f"the server does not start on {folder}"
        return process, port


@contextmanager
def building() -> Iterator[Builder]:
    """Something that makes servers while the context lasts."""
    command = [sys.executable, "-m", "tests.chaos.house"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield Builder(process.stdin, process.stdout)
        process.stdin.close()


class House:
    """Starts, kills and stops a server.

    Attributes:
        folder: of its journal.
        shared: whether other servers use it, too.
        port: where it listens, ``None`` while it does not.
    """

    def __init__(self, folder: Path, builder: Builder, shared: bool = False) -> None:
        self.folder = folder
        self.shared = shared
        self.port: int | None = None
        self._builder = builder

    async def start(self) -> None:
        """Listen on a new port."""
        self._process, self.port = await asyncio.to_thread(self._builder.build, self.folder, self.shared)

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        """Listen while the context lasts."""
        await self.start()
        try:
            yield
        finally:
            if self.port is not None:
                await self.stop(signal.SIGTERM)

    async def restart(self, how: signal.Signals, seconds: float) -> None:
        """End the process, and start another after some time."""
        await self.stop(how)
        await asyncio.sleep(seconds)
        await self.start()

    async def kill(self) -> None:
        """SIGKILL."""
        await self.stop(signal.SIGKILL)

    async def stop(self, how: signal.Signals) -> None:
        """SIGKILL or SIGTERM, up to the process' end."""
        self.port = None
        ended = os.pidfd_open(self._process)
        os.kill(self._process, how)
        ready, _, _ = await asyncio.to_thread(select.select, [ended], [], [], PATIENCE_S)
        os.close(ended)
        assert ready, "the server does not stop"


async def _serve(folder: str, shared: bool) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    config = Config(
        ServerConfig(port=0, credit_s=CREDIT_S, drain_s=DRAIN_S),
        journal=JournalConfig(folder=folder, segment_s=SEGMENT_S, commit_every_ms=COMMIT_EVERY_MS, shared=shared),
    )
    async with Service(config, Loaded(ScriptedEngine(), "off", None)).listening() as service:
        print(os.getpid(), service.port, flush=True)
        await stopped.wait()


def _live(folder: str, shared: bool) -> None:
    """The life of a forked process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        asyncio.run(_serve(folder, shared))
    except BaseException:  # noqa: BLE001 - the process ends with it
        traceback.print_exc()
        print(os.getpid(), 0, flush=True)
    os._exit(0)


def main() -> None:
    """Fork a server for every line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that ended are gone at once
    for line in sys.stdin:
        if os.fork() == 0:
            _live(*json.loads(line))


if __name__ == "__main__":
    main()
