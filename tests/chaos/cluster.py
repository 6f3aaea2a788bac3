"""Two gateways on one journal and three engines, each in a process of its own, and what a history does to them.

The gateways reach the engines through proxies, so links are cut and stalled as connections of clients are.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from tests.chaos.histories import History, check, live
from tests.chaos.processes import Forks, Process
from tests.chaos.proxy import Proxy, Way

GATEWAYS: Final = 2
ENGINES: Final = 3
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


# ---- the cluster -----------------------------------------------------------------------------------------------------


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
