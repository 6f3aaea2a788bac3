"""Servers, gateways and engines, each in a process of its own, that are killed, stopped and started again.

``python -m tests.chaos.processes`` imports the service once, and forks a process for each line of its input: a start
costs a fork.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

from af3stream.cluster.engine_address import EngineAddress
from af3stream.cluster.engine_server import EngineServer
from af3stream.config import Config, EngineConfig, JournalConfig, ServerConfig
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.server.cluster_backend import joined
from af3stream.server.service import Service

PATIENCE_S: Final = 30.0
SEGMENT_S: Final = 3.0  # of audio in a raw file: histories see files closed and sealed
COMMIT_EVERY_MS: Final = 5
CREDIT_S: Final = 70.0
DRAIN_S: Final = 5.0
PR_SET_PDEATHSIG: Final = 1
KEY: Final = "the key of the engines"
ENGINE: Final = EngineConfig(kind="ray", lost_after_s=1.5)  # a stall of more is a partition


class Forks:
    """Forks processes. A gateway listens once it has an engine, so several may be about to start at once."""

    def __init__(self, orders: IO[str], forked: IO[str]) -> None:
        self._orders, self._forked = orders, forked
        self._numbers = count()
        self._starting: dict[int, Future[tuple[int, int]]] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def fork(self, order: dict[str, Any]) -> tuple[int, int]:
        """A process that listens; returns its id and its port. Called from any thread."""
        number, started = next(self._numbers), Future[tuple[int, int]]()
        self._starting[number] = started
        print(json.dumps({**order, "number": number}), file=self._orders, flush=True)
        process, port = started.result(PATIENCE_S)
        assert port, f"a process does not start: {order}"
        return process, port

    def _read(self) -> None:
        for line in self._forked:
            number, process, port = map(int, line.split())
            self._starting.pop(number).set_result((process, port))


@contextmanager
def forking() -> Iterator[Forks]:
    """Something that forks processes while the context lasts."""
    command = [sys.executable, "-m", "tests.chaos.processes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield Forks(process.stdin, process.stdout)
        process.stdin.close()


class Process:
    """A server, a gateway or an engine.

    Attributes:
        id: of the process.
        port: where it listens, ``None`` while it does not.
    """

    def __init__(self, forks: Forks, order: dict[str, Any]) -> None:
        self.id = 0
        self.port: int | None = None
        self._forks, self._order = forks, order
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Listen on a new port."""
        self.id, self.port = await asyncio.to_thread(self._forks.fork, self._order)

    async def restart(self, how: signal.Signals, seconds: float) -> None:
        """End the process, and start another after some time; one restart after the other."""
        async with self._turn:
            await self.stop(how)
            await asyncio.sleep(seconds)
            await self.start()

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after some time."""
        async with self._turn:
            os.kill(self.id, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(self.id, signal.SIGCONT)

    async def stop(self, how: signal.Signals) -> None:
        """End the process."""
        if self.port is None:
            return
        self.port = None
        ended = os.pidfd_open(self.id)
        os.kill(self.id, how)
        ready, _, _ = await asyncio.to_thread(select.select, [ended], [], [], PATIENCE_S)
        os.close(ended)
        assert ready, "a process does not stop"


class Server(Process):
    """A server with an engine of its own. It implements `tests.chaos.histories.Site`.

    Args:
        folder: of its journal.
        shared: whether other servers use the journal, too.
    """

    def __init__(self, folder: Path, forks: Forks, shared: bool = False) -> None:
        super().__init__(forks, {"kind": "server", "folder": str(folder), "shared": shared})

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        """Listen while the context lasts."""
        await self.start()
        try:
            yield
        finally:
            await self.stop(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL."""
        await self.stop(signal.SIGKILL)


# ---- inside a process ------------------------------------------------------------------------------------------------


async def _serve(order: dict[str, Any]) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    match order["kind"]:
        case "engine":
            await _run_engine(order, stopped)
        case "gateway":
            await _run_gateway(order, stopped)
        case "server":
            await _run_server(order, stopped)


def _say(order: dict[str, Any], port: int) -> None:
    """Tell where a process listens, in one write, because others write, too; 0: it has failed."""
    os.write(1, f"{order['number']} {os.getpid()} {port}\n".encode())


def _config(order: dict[str, Any], **journal: Any) -> Config:
    return Config(
        ServerConfig(port=0, credit_s=CREDIT_S, drain_s=DRAIN_S, max_sessions=64, admit_busy=0),
        journal=JournalConfig(folder=order["folder"], segment_s=SEGMENT_S, commit_every_ms=COMMIT_EVERY_MS, **journal),
        engine=ENGINE,
    )


async def _run_server(order: dict[str, Any], stopped: asyncio.Event) -> None:
    loaded = Loaded(ScriptedEngine(), "off", None)
    async with Service(_config(order, shared=order["shared"]), loaded).listening() as service:
        _say(order, service.port)
        await stopped.wait()


async def _run_gateway(order: dict[str, Any], stopped: asyncio.Event) -> None:
    config = _config(order, shared=True, owner=order["name"])
    engines = [
        EngineAddress(f"e{index}", f"127.0.0.1:{port}", KEY, "all", 0) for index, port in enumerate(order["engines"])
    ]

    async def watch(seen: Callable[[list[EngineAddress]], None]) -> None:
        seen(engines)
        await asyncio.Event().wait()

    async with joined(config, watch) as backend, Service(config, backend).listening() as service:
        _say(order, service.port)
        await stopped.wait()


async def _run_engine(order: dict[str, Any], stopped: asyncio.Event) -> None:
    loaded = Loaded(ScriptedEngine(), "off", None)
    worker = Worker(loaded.engine)
    worker.start()
    async with EngineServer(worker, loaded.facts, KEY, ENGINE).listening("127.0.0.1") as server:
        _say(order, server.port)
        await stopped.wait()


def _live(order: dict[str, Any]) -> None:
    """The life of a forked process; it ends with its parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        asyncio.run(_serve(order))
    except BaseException:  # noqa: BLE001 - the process ends with it
        traceback.print_exc()
        _say(order, 0)
    os._exit(0)


def main() -> None:
    """Fork a process for every line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that ended are gone at once
    for line in sys.stdin:
        if os.fork() == 0:
            _live(json.loads(line))


if __name__ == "__main__":
    main()
