"""Keep a gateway connected to every engine of its cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from af3stream.cluster.cluster_jobs import ClusterJobs
from af3stream.cluster.engine_address import EngineAddress
from af3stream.cluster.engine_link import LinkError, UnlikeEngine
from af3stream.cluster.members import Link

log = logging.getLogger(__name__)

RECONNECT_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # before the next attempt, after so many failures in a row
UNLIKE_S: Final = 60.0  # the same for an engine that differs; if it is started again, it has another address


class ClosableLink(Link, Protocol):
    """A link that is closed when the gateway stops."""

    async def disconnect(self) -> None:
        """Close it; `on_lost` is not called."""


Connect = Callable[[EngineAddress], Awaitable[ClosableLink]]


class LinkKeeper:
    """Opens a link to each engine that the cluster has, and opens it again if it is lost.

    Args:
        jobs: what uses the links.
        connect: opens a link, and raises `LinkError` if that fails.
    """

    def __init__(self, jobs: ClusterJobs, connect: Connect) -> None:
        self._jobs = jobs
        self._connect = connect
        self._present: frozenset[EngineAddress] = frozenset()
        self._keeping: dict[EngineAddress, asyncio.Task[None]] = {}
        self._links: set[ClosableLink] = set()

    @property
    def names(self) -> set[str]:
        """The engines that the cluster has, by name."""
        return {engine.name for engine in self._present}

    def see(self, engines: list[EngineAddress]) -> None:
        """Take the news which engines there are. A link to one that has left stays until it is lost."""
        self._present = frozenset(engines)
        for engine in engines:
            if engine not in self._keeping:
                self._keeping[engine] = asyncio.create_task(self._keep(engine))

    async def stop(self) -> None:
        """Close the links, and open no more."""
        tasks = [*self._keeping.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(link.disconnect() for link in self._links))

    async def _keep(self, engine: EngineAddress) -> None:
        failures = 0
        while engine in self._present:
            wait_s = RECONNECT_S[min(failures, len(RECONNECT_S) - 1)]
            try:
                await self._use(engine, await self._connect(engine))
                failures, wait_s = 0, RECONNECT_S[0]
            except LinkError as error:
                if not failures:
                    log.warning("an engine cannot be used: engine=%s error=%s", engine.name, error)
                if isinstance(error, UnlikeEngine):
                    wait_s = UNLIKE_S
                failures += 1
            except Exception:
                log.exception("internal error: an engine cannot be used: engine=%s", engine.name)
                failures += 1
            await asyncio.sleep(wait_s)
        del self._keeping[engine]

    async def _use(self, engine: EngineAddress, link: ClosableLink) -> None:
        """Have jobs run over a link until it is lost."""
        lost = asyncio.Event()
        self._links.add(link)
        self._jobs.add(engine.name, engine.role, link, lost.set)
        place = (engine.name, engine.address, engine.process)
        log.info("an engine is connected: engine=%s address=%s process=%d", *place)
        await lost.wait()
        self._links.discard(link)
