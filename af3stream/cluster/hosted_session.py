"""A session of a gateway, with the jobs that are not done, as they must be submitted again to another engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from af3stream.cluster.members import Member
from af3stream.cluster.placement import Pool
from af3stream.engine.contract import AudioSource
from af3stream.engine.engine_core import Resident
from af3stream.engine.jobs import AnswerJob, ExtendJob, Job
from af3stream.engine.request import Report
from af3stream.metrics import Reason


@dataclass(eq=False, slots=True)
class Pending:
    """A job without its last result.

    Attributes:
        at: the engine that has it; ``None`` while it waits for one.
        sent: what that engine was given.
        told: characters of an answer that were told.
        again: characters of an answer that the engine has reported, those that were told before included.
        prefix_lost: whether an answer reads what it reads instead of the KV prefix; that was told, too.
        completed: whether the answer was told to its end.
        waits_from: since when it waits for an engine that begins it, in clock seconds, as far as was noticed.
        held_from: since when it waits for the KV prefix at its engine, likewise.
    """

    job: Job
    report: Report
    at: Member | None = None
    sent: Job | None = None
    told: int = 0
    again: int = 0
    prefix_lost: bool = False
    completed: bool = False
    waits_from: float | None = None
    held_from: float | None = None

    @property
    def needs_prefix(self) -> bool:
        """Whether it must not be given to an engine before the KV prefix is there again."""
        match self.job:
            case ExtendJob():
                return True
            case AnswerJob(prefix=prefix):
                return prefix > 0 and not self.prefix_lost
            case _:
                return False

    def held_since(self, now: float) -> float:
        """Note that it waits for the KV prefix; returns since when."""
        self.held_from = now if self.held_from is None else self.held_from
        return self.held_from

    def resumed(self) -> Job:
        """Return the job for an engine that did not begin it: an answer goes on over the parts that it has read."""
        self.again, job = 0, self.job
        if not isinstance(job, AnswerJob) or not (self.told or self.prefix_lost):
            return job
        return replace(job, parts=job.instead if self.prefix_lost else job.parts, prefix=0, instead=())

    def untold(self, piece: str) -> str:
        """Return what of the next piece of an answer was not told, and count it as told."""
        self.again += len(piece)
        fresh = piece[len(piece) - max(0, self.again - self.told) :]
        self.told = max(self.told, self.again)
        return fresh


@dataclass(eq=False, slots=True)
class HostedSession:
    """A session of this gateway.

    Attributes:
        fence: of its lease.
        engine: the one that has had it last, by name; empty: none.
        attached: whether its client is there.
        engines: the engine of each pool.
        pending: its jobs by their ids, the oldest first.
        extended: the last job that extended the KV prefix.
        restoring: the same once more, at a new engine, until it is done.
        reason: why it was placed last, or is to be placed.
    """

    id: str
    source: AudioSource
    resident: Resident
    fence: int = 0
    engine: str = ""
    attached: bool = True
    engines: dict[Pool, Member] = field(default_factory=dict)
    pending: dict[int, Pending] = field(default_factory=dict)
    extended: ExtendJob | None = None
    restoring: Pending | None = None
    reason: Reason = "new"

    @property
    def asks(self) -> bool:
        """Whether a question waits for its answer."""
        return any(isinstance(pending.job, AnswerJob) for pending in self.pending.values())

    @property
    def rank(self) -> tuple[bool, bool]:
        """Sort key: sessions with questions come first, then those with a client."""
        return not self.asks, not self.attached
