"""Two gateways and three engines in a Ray cluster of a head and two more nodes, and what a history does to them.

One cluster lives through many histories. Ray starts engines again that are killed, here or with their node.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import urlopen

from hypothesis import strategies as st

from tests.chaos.cluster import Move
from tests.chaos.histories import History, check, live
from tests.chaos.proxy import Proxy
from tests.cluster.ray_cluster import Gateway, RayCluster, ray_cluster

NODES: Final = 2
ENGINES: Final = 3
PATIENCE_S: Final = 240.0  # for a whole history: Ray starts an engine again in seconds
LOST_AFTER_S: Final = 3.0
JOIN_S: Final = 120.0  # a gateway may wait for the head, and for Ray to start an engine again


# ---- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KillRayEngine:
    """SIGKILL of an engine; Ray starts it again."""

    engine: int

    async def do(self, site: RaySite, proxy: Proxy) -> None:
        """Do it."""
        site.begin(asyncio.to_thread(site.kill_engine, self.engine))


@dataclass(frozen=True, slots=True)
class KillNode:
    """SIGKILL of all processes of a node, and a new node after some time."""

    node: int
    ms: int

    async def do(self, site: RaySite, proxy: Proxy) -> None:
        """Do it."""
        site.begin(site.replace_node(self.node, self.ms / 1_000))


@dataclass(frozen=True, slots=True)
class KillHead:
    """SIGKILL of all processes of the head, which starts again after some time with what it knew."""

    ms: int

    async def do(self, site: RaySite, proxy: Proxy) -> None:
        """Do it."""
        site.begin(site.restart_head(self.ms / 1_000))


STEPS: Final = (
    st.builds(KillRayEngine, st.integers(0, ENGINES - 1)),
    st.builds(KillRayEngine, st.integers(0, ENGINES - 1)).map(lambda step: step),  # as often again
    st.builds(KillNode, st.integers(0, NODES - 1), st.integers(0, 2_000)),
    st.builds(KillHead, st.integers(0, 2_000)),
    st.builds(Move),
)


# ---- the cluster -----------------------------------------------------------------------------------------------------


class RaySite:
    """Implements `tests.chaos.histories.Site` for the length of one history."""

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster = cluster
        self._chosen = 0
        self._down: set[int] = set()
        self._turn = asyncio.Lock()
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def _index(self) -> int:
        """The gateway that the client's next connection goes to: the chosen one, or the other if that is down."""
        return 1 - self._chosen if self._chosen in self._down and 1 - self._chosen not in self._down else self._chosen

    @property
    def port(self) -> int | None:
        """Where the client's next connection goes."""
        return None if self._index in self._down else self._cluster.gateways[self._index].port

    def move(self) -> None:
        """Choose the other gateway."""
        self._chosen = 1 - self._chosen

    def begin(self, act: Any) -> None:
        """Do something beside the following steps."""
        self._tasks.append(asyncio.ensure_future(act))

    def kill_engine(self, engine: int) -> None:
        """SIGKILL, if a gateway has seen the engine, and it still runs."""
        with suppress(ProcessLookupError, ValueError):
            self._cluster.kill_engine(f"engine-a-{engine + 1}")

    async def replace_node(self, node: int, seconds: float) -> None:
        """End a node, and start another after some time."""
        async with self._turn:
            nodes = self._cluster.nodes
            lost = nodes.nodes.pop(node)
            await asyncio.to_thread(lost.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(nodes.add_node)

    async def restart_head(self, seconds: float) -> None:
        """End the head, and start it again after some time."""
        async with self._turn:
            nodes = self._cluster.nodes
            await asyncio.to_thread(nodes.head.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(nodes.start_head)

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        """Run while the context lasts. It begins once both gateways have an engine."""
        for gateway in self._cluster.gateways:
            await asyncio.to_thread(_until_ready, gateway)
        try:
            yield
        finally:
            await asyncio.gather(*self._tasks)
            for index in sorted(self._down):
                await self._start(index)

    async def restart(self, how: signal.Signals, seconds: float) -> None:
        """End the gateway that the client has, and start it again after some time."""
        index = self._index
        self._down.add(index)
        await asyncio.to_thread(self._cluster.gateways[index].stop, how)
        await asyncio.sleep(seconds)
        await self._start(index)

    async def kill(self) -> None:
        """SIGKILL of both gateways."""
        await asyncio.gather(*self._tasks)
        for index, gateway in enumerate(self._cluster.gateways):
            self._down.add(index)
            await asyncio.to_thread(gateway.stop)

    async def _start(self, index: int) -> None:
        """Start a gateway again on a new port."""
        gateways = self._cluster.gateways
        self._cluster.start_gateway()
        gateways[index] = gateways.pop()
        await asyncio.to_thread(gateways[index].wait, JOIN_S)
        self._down.discard(index)


def _until_ready(gateway: Gateway) -> None:
    """Wait until a gateway has an engine."""
    deadline = time.monotonic() + JOIN_S
    while time.monotonic() < deadline:
        with suppress(HTTPError), urlopen(f"http://127.0.0.1:{gateway.port}/readyz"):
            return
        time.sleep(0.2)
    raise AssertionError(f"the gateway has no engine:\n{gateway.log}")


@contextmanager
def ray_cluster_of_three() -> Iterator[RayCluster]:
    """A head and two nodes, three engines and two gateways, while the context lasts."""
    with ray_cluster(nodes=NODES, cpus=2, lost_after_s=LOST_AFTER_S) as cluster:
        engines = cluster.start_engines("a", ENGINES)
        gateways = [cluster.start_gateway() for _ in range(2)]
        engines.wait_for("is ready", ENGINES)
        for gateway in gateways:
            gateway.wait()
            gateway.wait_for("an engine is connected", ENGINES)
        yield cluster


async def play(history: History, folder: Path, cluster: RayCluster) -> None:
    """Live a history in the cluster, and check what must hold; an assertion fails where it does not."""
    lived = await live(history, RaySite(cluster), folder, patience_s=PATIENCE_S)
    check(history, lived, cluster.nodes.folder)
