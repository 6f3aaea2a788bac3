"""Two gateways on one journal and three engines, each in a process of its own, and what a history does to them.

The gateways reach the engines through proxies, so links are cut and stalled as connections of clients are.
``python -m tests.chaos.cluster`` imports the service once, and forks a process for each line of its input.
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
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

from hypothesis import strategies as st

from af3stream.cluster.engine_address import EngineAddress
from af3stream.cluster.engine_server import EngineServer
from af3stream.config import Config, EngineConfig, JournalConfig, ServerConfig
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.server.cluster_backend import joined
from af3stream.server.service import Service
from tests.chaos.histories import History, check, live
from tests.chaos.house import COMMIT_EVERY_MS, CREDIT_S, DRAIN_S, PATIENCE_S, SEGMENT_S
from tests.chaos.proxy import Proxy, Way

GATEWAYS: Final = 2
ENGINES: Final = 3
PR_SET_PDEATHSIG: Final = 1
KEY: Final = "the key of the engines"
ENGINE: Final = EngineConfig(kind="ray", lost_after_s=1.5)  # a stall of more is a partition
SPLITS: Final = (7, 100, 1_448)  # bytes


# ---- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KillEngine:
    """SIGKILL of an engine, and a new one after some time."""

    engine: int
    ms: int

    async def do(self, site: Cluster, proxy: Proxy) -> None:
        """Do it."""
        site.begin(site.engines[self.engine].restart(signal.SIGKILL, self.ms / 1_000))


@dataclass(frozen=True, slots=True)
class CutEngine:
    """Reset the connections of an engine: now, or when so many more bytes have gone one way."""

    engine: int
    way: Way
    after: int | None

    async def do(self, site: Cluster, proxy: Proxy) -> None:
        """Do it."""
        if self.after is None:
            site.proxies[self.engine].cut()
        else:
            site.proxies[self.engine].cut_after(self.way, self.after)


@dataclass(frozen=True, slots=True)
class Partition:
    """Nothing goes one way between the gateways and an engine, for some time."""

    engine: int
    way: Way
    ms: int

    async def do(self, site: Cluster, proxy: Proxy) -> None:
        """Do it."""
        site.proxies[self.engine].stall(self.way, self.ms / 1_000)


@dataclass(frozen=True, slots=True)
class SplitEngine:
    """What goes one way between the gateways and an engine goes in small pieces."""

    engine: int
    way: Way
    size: int

    async def do(self, site: Cluster, proxy: Proxy) -> None:
        """Do it."""
        site.proxies[self.engine].split(self.way, self.size)


@dataclass(frozen=True, slots=True)
class Move:
    """Cut the client off; its next connection goes to the other gateway, while the first one lives."""

    async def do(self, site: Cluster, proxy: Proxy) -> None:
        """Do it."""
        site.move()
        proxy.cut()


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop a gateway's process for some time, and have the client at the other one meanwhile."""

    ms: int

    async def do(self, site: Cluster, proxy: Proxy) -> None:
        """Do it."""
        site.begin(site.gateway.freeze(self.ms / 1_000))
        site.move()
        proxy.cut()


_ENGINES: Final = st.integers(0, ENGINES - 1)
_WAYS: Final = st.sampled_from(["up", "down"])
STEPS: Final = (
    st.builds(KillEngine, _ENGINES, st.integers(0, 600)),
    st.builds(KillEngine, _ENGINES, st.integers(0, 600)).map(lambda step: step),  # as often again
    st.builds(CutEngine, _ENGINES, _WAYS, st.none() | st.integers(0, 60_000) | st.integers(0, 2_000)),
    st.builds(Partition, _ENGINES, _WAYS, st.integers(0, 400) | st.integers(1_600, 2_200)),
    st.builds(SplitEngine, _ENGINES, _WAYS, st.sampled_from(SPLITS)),
    st.builds(Move),
    st.builds(Freeze, st.integers(0, 800)),
)


# ---- processes -------------------------------------------------------------------------------------------------------


class Forks:
    """Forks processes. A gateway listens once it has an engine, so several may be about to start at once."""

    def __init__(self, orders: IO[str], forked: IO[str]) -> None:
        self._orders, self._forked = orders, forked
        self._numbers = count()
        self._starting: dict[int, Future[tuple[int, int]]] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def fork(self, order: dict[str, Any]) -> tuple[int, int]:
        """A gateway or an engine that listens; returns its process and its port. Called from any thread."""
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
    command = [sys.executable, "-m", "tests.chaos.cluster"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield Forks(process.stdin, process.stdout)
        process.stdin.close()


class Process:
    """A gateway or an engine.

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


class Cluster:
    """Implements `tests.chaos.histories.Site`: the client's connections go to one gateway of two.

    Attributes:
        proxies: between the gateways and each engine.
    """

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.engines = [Process(forks, {"kind": "engine"}) for _ in range(ENGINES)]
        self.proxies = [Proxy(lambda engine=engine: engine.port) for engine in self.engines]  # type: ignore[misc]
        self._folder, self._forks = folder, forks
        self._gateways: list[Process] = []
        self._chosen = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def gateway(self) -> Process:
        """The gateway that the client's next connection goes to: the chosen one, or the other if that is down."""
        chosen, other = self._gateways[self._chosen], self._gateways[1 - self._chosen]
        return other if chosen.port is None and other.port is not None else chosen

    @property
    def port(self) -> int | None:
        """Where the client's next connection goes."""
        return self.gateway.port

    def move(self) -> None:
        """Choose the other gateway."""
        self._chosen = 1 - self._chosen

    def begin(self, act: Any) -> None:
        """Do something beside the following steps."""
        self._tasks.append(asyncio.create_task(act))

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        """Run while the context lasts."""
        async with AsyncExitStack() as stack:
            for proxy in self.proxies:
                await stack.enter_async_context(proxy.listening())
            order = {"kind": "gateway", "folder": str(self._folder), "engines": [proxy.port for proxy in self.proxies]}
            self._gateways = [Process(self._forks, {**order, "name": f"g{index}"}) for index in range(GATEWAYS)]
            for process in [*self.engines, *self._gateways]:
                await process.start()
            try:
                yield
                await asyncio.gather(*self._tasks)
            finally:
                await self.kill()

    async def restart(self, how: signal.Signals, seconds: float) -> None:
        """End the gateway that the client has, and start it again after some time."""
        await self.gateway.restart(how, seconds)

    async def kill(self) -> None:
        """SIGKILL of every process."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in [*self._gateways, *self.engines]:
            await process.stop(signal.SIGKILL)


async def play(history: History, folder: Path, forks: Forks) -> None:
    """Live a history in a cluster, and check what must hold; an assertion fails where it does not."""
    lived = await live(history, Cluster(folder / "journal", forks), folder, examined=True)
    check(history, lived, folder)


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
    async with Service(_config(order), loaded).listening() as service:
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
