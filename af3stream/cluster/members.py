"""The engines of a cluster, as a gateway knows them: what each reports, and how many sessions it was given since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from af3stream.cluster.placement import Candidate, Role
from af3stream.cluster.wire import EngineLoad
from af3stream.engine.contract import AudioSource
from af3stream.engine.engine_core import Resident
from af3stream.engine.jobs import Job
from af3stream.engine.request import Report
from af3stream.engine.worker import SHORT_FOR_S


class Link(Protocol):
    """An engine, as a gateway reaches it. It runs jobs as `af3stream.engine.worker.Worker` does.

    All is called on one thread, reports included.
    """

    @property
    def load(self) -> EngineLoad:
        """What the engine last reported; another object after each report."""

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Have a function called once if the link is lost."""

    @property
    def fullness(self) -> float:
        """How full the queue of what waits to be sent is: 0 is empty; at 1, the link is given up."""

    def on_emptied(self, callback: Callable[[], None]) -> None:
        """Have a function called each time all that waited is sent."""

    def on_superseded(self, callback: Callable[[str], None]) -> None:
        """Have a function called with each session that another gateway has taken over."""

    def open(self, session: str, source: AudioSource, resident: Resident, fence: int = 0) -> None: ...

    def submit(self, session: str, job: Job, report: Report) -> None: ...

    def cancel(self, session: str, job: int) -> None: ...

    def attach(self, session: str) -> None: ...

    def detach(self, session: str) -> None: ...

    def close(self, session: str) -> None: ...


@dataclass(eq=False, slots=True)
class Member:
    """An engine of the cluster.

    Attributes:
        placed: sessions that were placed there since its load was reported.
        counted: that load.
        due_s: of the device, as it was counted last.
        behind: the sessions that have jobs which wait for room on the link.
    """

    name: str
    role: Role
    link: Link
    counted: EngineLoad
    placed: int = 0
    due_s: float = 0.0
    behind: set[str] = field(default_factory=set)

    def load(self) -> EngineLoad:
        """Return the engine's load. A new report counts the sessions that were placed before it."""
        if self.link.load is not self.counted:
            self.counted, self.placed = self.link.load, 0
        return self.counted

    def candidate(self, session_bytes: int, most_sessions: float) -> Candidate:
        """Return the engine for placement.

        A new session has no keys and values yet, and gets them without being asked. So each session is expected to
        need ``session_bytes``, and if all of them have more, what they have counts. A captioner's have none.

        Args:
            session_bytes: keys and values that a session is expected to need.
            most_sessions: how many sessions it has time for.
        """
        load = self.load()
        sessions = load.sessions + self.placed
        expected = 0 if self.role == "captions" else sessions * session_bytes
        return Candidate(
            self.name,
            self.role,
            reserved_bytes=max(load.kv_bytes, expected),
            limit_bytes=load.kv_limit_bytes,
            sessions=sessions,
            draining=load.draining,
            overloaded=load.short_s > SHORT_FOR_S or (sessions > 0 and sessions + 1 > most_sessions),
        )
