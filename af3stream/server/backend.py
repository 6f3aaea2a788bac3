"""What runs the jobs of a server's sessions: an engine in its process, or the engines of a cluster."""

from __future__ import annotations

import asyncio
from typing import Protocol

from af3stream.config import Config
from af3stream.engine.factory import Loaded
from af3stream.engine.facts import EngineFacts
from af3stream.engine.worker import SHORT_FOR_S, Worker
from af3stream.metrics import EMBEDDED, Metrics
from af3stream.server.session_runner import Jobs
from af3stream.tracing import Tracing


class Listener(Protocol):
    """Is told what happens to sessions at the engines of a cluster."""

    def placed(self, session: str, engine: str) -> None:
        """A session that has a lease is at an engine from now on."""

    def superseded(self, session: str) -> None:
        """Another server has taken a session."""


class Backend(Protocol):
    """Runs jobs.

    Attributes:
        facts: what sessions need to know of the engine.
        jobs: takes the jobs.
        engines: engines that share the sessions.
        hands_over: whether other servers can go on with the sessions of this one.
        busy_s: seconds that the devices have worked for these sessions.
        due_s: of them, those for what cannot be shed: all but interim captions.
        short_of_memory: whether a job has waited long for memory that others have.
    """

    @property
    def facts(self) -> EngineFacts: ...
    @property
    def hands_over(self) -> bool: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def engines(self) -> int: ...
    @property
    def busy_s(self) -> float: ...
    @property
    def due_s(self) -> float: ...
    @property
    def short_of_memory(self) -> bool: ...

    def start(self, metrics: Metrics, listener: Listener) -> None:
        """Run jobs from now on."""

    async def stop(self) -> None:
        """Run no more jobs."""

    def check(self, most_sessions: float) -> None:
        """Do what is due; called every second.

        Args:
            most_sessions: how many sessions an engine has time for.
        """

    def refusal(self) -> str | None:
        """Return why no engine takes another session, or ``None``."""

    def unready(self) -> str | None:
        """Return why new clients should go to another server, or ``None``.

        A full server is ready: it answers with Retry-After, and resumes the sessions that it has.
        """

    def expect(self, session: str, fence: int, engine: str) -> None:
        """Take the news of a session that is opened next: the fence of its lease, and the engine that had it."""

    def hand_over(self) -> None:
        """Leave the caches of sessions that are closed from now on to the servers that go on with them."""

    def note(self) -> None:
        """Set the metrics of the engines."""


class EmbeddedBackend:
    """An engine in the server's process. See `Backend`.

    Attributes:
        loaded: the engine.
    """

    hands_over = False
    engines = 1

    def __init__(self, loaded: Loaded, config: Config, tracing: Tracing | None) -> None:
        self.loaded = loaded
        self.facts = loaded.facts
        self.jobs = Worker(loaded.engine, config.model, tracing)

    @property
    def busy_s(self) -> float:
        """Seconds that the device has worked."""
        return self.jobs.busy_s

    @property
    def due_s(self) -> float:
        """Seconds that the device has worked for what cannot be shed."""
        return self.jobs.due_s

    @property
    def short_of_memory(self) -> bool:
        """Whether a job has waited long for memory that others have."""
        return self.jobs.short_s > SHORT_FOR_S

    def start(self, metrics: Metrics, listener: Listener) -> None:
        """Work on a thread from now on."""
        self._metrics = metrics.engines
        self.jobs.start()

    async def stop(self) -> None:
        """Stop after the running step."""
        await asyncio.to_thread(self.jobs.stop)

    def check(self, most_sessions: float) -> None:
        """Do nothing: the worker sees to itself."""

    def refusal(self) -> str | None:
        """Return ``None``: `af3stream.server.load.Load` decides."""
        return None

    def unready(self) -> str | None:
        """Return ``None``: the engine is there."""
        return None

    def expect(self, session: str, fence: int, engine: str) -> None:
        """Do nothing: there is one engine."""

    def hand_over(self) -> None:
        """Do nothing: no other server has this engine."""

    def note(self) -> None:
        """Set the metrics of the engine."""
        worker = self.jobs
        self._metrics.note(
            EMBEDDED,
            sessions=worker.sessions,
            kv_bytes=worker.kv_bytes,
            embedding_bytes=worker.embedding_bytes,
            device_s=worker.busy_s,
        )
