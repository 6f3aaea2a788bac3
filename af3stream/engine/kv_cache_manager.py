"""Which sessions keep keys and values, and how much of them: the least recently used give theirs up first.

A session is warm (keys and values), cool (embeddings alone, from which a question warms it again) or cold (audio alone:
see `EmbeddingCache`). A pure object: the time is an argument, and nothing here touches a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from af3stream.engine.contract import Context
from af3stream.engine.embedding_cache import EmbeddingCache
from af3stream.engine.jobs import Job
from af3stream.errors import BudgetExceeded


@dataclass(eq=False, slots=True)
class CachedSession:
    """One session's context.

    Attributes:
        used_at: clock seconds of the last job.
        reserved: bytes that each job under way may take, the kept ones included.
    """

    context: Context
    used_at: float
    reserved: dict[Job, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What to count."""
        return max(sum(self.reserved.values()), self.context.kept_bytes)


class KVCacheManager:
    """Every session's context within one budget.

    Args:
        make: a new, empty context of a session.
        budget: bytes of keys and values of all sessions; 0: without a bound.
        cool_after_s: without a job for so long, a session is cooled.
        embeddings: what is left of a session that is cool.
    """

    def __init__(
        self, make: Callable[[str], Context], budget: int, cool_after_s: float, embeddings: EmbeddingCache
    ) -> None:
        self.embeddings = embeddings
        self._make = make
        self._budget = budget
        self._cool_after_s = cool_after_s
        self._kept: dict[str, CachedSession] = {}  # the least recently used first

    @property
    def bytes(self) -> int:
        """Bytes of keys and values that are written, or promised to a job under way."""
        return sum(kept.bytes for kept in self._kept.values())

    def use(self, session: str, now: float) -> CachedSession:
        """A session's context, for a job."""
        kept = self._kept.pop(session, None) or CachedSession(self._make(session), now)
        kept.used_at = now
        self._kept[session] = kept
        return kept

    def touch(self, session: str, now: float) -> None:
        """Note a job of a session that needs no context."""
        self.embeddings.touch(session, now)
        if session in self._kept:
            self.use(session, now)

    def reserve(self, own: CachedSession, job: Job, needs: Callable[[], int]) -> bool:
        """Make room for a job, cooling other sessions and at last its own; false where it must wait for jobs under way.

        Args:
            needs: the most bytes that the job's context takes while it does the job, as things stand.

        Raises:
            BudgetExceeded: where the job does not fit the budget alone.
        """
        if not self._budget:
            return True
        for kept in [*(other for other in self._kept.values() if other is not own), own]:
            if self._fits(own, needs()):
                break
            if not kept.reserved:
                kept.context.evict()
        needed = needs()
        if self._fits(own, needed):
            own.reserved[job] = needed
            return True
        if any(kept.reserved for kept in self._kept.values()):
            return False
        raise BudgetExceeded("keys and values", needed, self._budget)

    def release(self, session: str, job: Job) -> None:
        """A job is done, failed, cancelled, or waits for other memory."""
        self.embeddings.release(session, job)
        if kept := self._kept.get(session):
            kept.reserved.pop(job, None)

    def cool_idle(self, now: float) -> None:
        """Cool the sessions that had no job for long, and drop the embeddings of those that had none for longer."""
        self.embeddings.evict_idle(now)
        for kept in self._kept.values():
            if now >= kept.used_at + self._cool_after_s and not kept.reserved:
                kept.context.evict()

    def next_deadline(self) -> float | None:
        """When `cool_idle` is due next, in clock seconds."""
        warm = (kept.used_at for kept in self._kept.values() if kept.context.kept_tokens and not kept.reserved)
        first = min(warm, default=None)
        deadlines = [self.embeddings.next_deadline(), None if first is None else first + self._cool_after_s]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def cool_all(self) -> None:
        """Give up all keys and values, and all embeddings that can be made again."""
        self.embeddings.evict_all()
        for kept in self._kept.values():
            kept.context.evict()

    def forget(self, session: str) -> None:
        """Drop a session's context."""
        self._kept.pop(session, None)

    def _fits(self, own: CachedSession, needed: int) -> bool:
        return self.bytes - own.bytes + sum(own.reserved.values()) + needed <= self._budget
