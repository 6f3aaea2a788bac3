"""Run the jobs of a gateway's sessions on the engines of a cluster."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from af3stream.cluster.cluster_jobs import NO_ENGINE, ClusterJobs
from af3stream.cluster.engine_address import EngineAddress
from af3stream.cluster.engine_link import EngineLink, UnlikeEngine
from af3stream.cluster.link_keeper import LinkKeeper
from af3stream.cluster.ray_membership import watch
from af3stream.config import Config
from af3stream.engine.facts import EngineFacts
from af3stream.errors import ConfigError
from af3stream.metrics import Metrics, Reason
from af3stream.server.backend import Listener

Watch = Callable[[Callable[[list[EngineAddress]], None]], Awaitable[None]]


class ClusterBackend:
    """The engines of a cluster. See `af3stream.server.backend.Backend`.

    Attributes:
        connected: set once an engine was connected, so that its facts are known.
        keeper: connects the engines that the cluster has.
    """

    hands_over = True
    short_of_memory = False  # placement knows which engines are

    def __init__(self, config: Config) -> None:
        self.jobs = ClusterJobs(self, config.engine.wait_s, config.engine.rebuild_wait_s)
        self.keeper = LinkKeeper(self.jobs, self._connect)
        self.connected = asyncio.Event()
        self._config = config.engine
        self._gateway = f"{socket.gethostname()}:{secrets.token_hex(8)}"
        self._facts: EngineFacts | None = None
        self._noted: set[str] = set()

    @property
    def facts(self) -> EngineFacts:
        """What sessions need to know of the engines, which are all alike."""
        assert self._facts is not None, "no engine was connected"
        return self._facts

    @property
    def engines(self) -> int:
        """Engines that are connected."""
        return len(self.jobs.engines)

    @property
    def busy_s(self) -> float:
        """Seconds that the devices of all engines have worked, for other gateways, too."""
        return sum(load.busy_s for load in self.jobs.engines.values())

    @property
    def due_s(self) -> float:
        """Seconds that the devices have worked for these sessions, without what can be shed."""
        return self.jobs.due_s

    def start(self, metrics: Metrics, listener: Listener) -> None:
        """Tell what happens to sessions from now on."""
        self._metrics, self._listener = metrics, listener

    async def stop(self) -> None:
        """Do nothing: `joined` leaves the cluster."""

    def check(self, most_sessions: float) -> None:
        """Move sessions away from engines that drain, and fail questions that wait too long for an engine."""
        self.jobs.check(asyncio.get_running_loop().time(), most_sessions)

    def refusal(self) -> str | None:
        """Return why no engine takes another session, or ``None``."""
        return self.jobs.refusal()

    def unready(self) -> str | None:
        """Return why new clients should go to another gateway, or ``None``."""
        return None if self.jobs.engines else NO_ENGINE

    def expect(self, session: str, fence: int, engine: str) -> None:
        """Take the news of a session that is opened next: the fence of its lease, and the engine that had it."""
        self.jobs.expect(session, fence, engine)

    def hand_over(self) -> None:
        """Leave the caches of sessions that are closed from now on to the gateways that go on with them."""
        self.jobs.hand_over()

    def note(self) -> None:
        """Set the metrics of the engines."""
        loads = self.jobs.engines
        for name, load in loads.items():
            self._metrics.engines.note(
                name,
                sessions=load.sessions,
                kv_bytes=load.kv_bytes,
                embedding_bytes=load.embedding_bytes,
                device_s=load.busy_s,
            )
        known = self.keeper.names | loads.keys()
        for name in known - loads.keys():
            self._metrics.engines.lost(name)
        for name in self._noted - known:
            self._metrics.engines.forget(name)
        self._noted = known

    def placed(self, session: str, fence: int, engine: str, reason: Reason) -> None:
        """Take the news that a session is at an engine from now on."""
        self._metrics.placed(reason)
        if fence:
            self._listener.placed(session, engine)

    def superseded(self, session: str) -> None:
        """Take the news that another gateway has taken a session."""
        self._listener.superseded(session)

    async def _connect(self, engine: EngineAddress) -> EngineLink:
        """Open a link.

        Raises:
            LinkError: if the engine cannot be reached.
            UnlikeEngine: if it differs from the first one.
        """
        link = await EngineLink.connect(engine.address, engine.key, self._gateway, self._config)
        if self._facts is None:
            self._facts = link.facts
        if link.facts != self._facts:
            await link.disconnect()
            raise UnlikeEngine("its model or its settings differ from those of the other engines")
        self.connected.set()
        return link


@asynccontextmanager
async def joined(config: Config, watch_engines: Watch | None = None) -> AsyncIterator[ClusterBackend]:
    """Join a cluster while the context lasts. The context begins once the first engine is connected.

    Args:
        watch_engines: reports the engines each time they change, until cancelled; by default, those of the Ray cluster.

    Raises:
        ConfigError: if the journal is not shared.
    """
    if not config.journal.shared:
        raise ConfigError("a cluster needs a journal that all gateways share: set journal.folder and journal.shared")
    backend = ClusterBackend(config)
    watch_engines = watch_engines or partial(watch, config.engine.cluster)
    watching = asyncio.ensure_future(watch_engines(backend.keeper.see))
    try:
        await backend.connected.wait()
        yield backend
    finally:
        watching.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await watching
        finally:
            await backend.keeper.stop()
