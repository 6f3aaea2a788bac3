"""Keep a gateway connected to every engine of its cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from af3stream.cluster.cluster_jobs import ClusterJobs
from af3stream.cluster.engine_address import EngineAddress
from af3stream.cluster.engine_link import LinkError
from af3stream.cluster.members import Link

log = logging.getLogger(__name__)

RECONNECT_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # before the next attempt, after so many failures in a row


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
            try:
                link = await self._connect(engine)
            except LinkError as error:
                if not failures:
                    log.warning("an engine cannot be used: engine=%s error=%s", engine.name, error)
            else:
                failures = 0
                lost = asyncio.Event()
                self._jobs.add(engine.name, engine.role, link, lost.set)
                place = (engine.name, engine.address, engine.process)
                log.info("an engine is connected: engine=%s address=%s process=%d", *place)
                self._links.add(link)
                await lost.wait()
                self._links.discard(link)
            await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
            failures += 1
        del self._keeping[engine]
