"""Keep the KV prefix of every session within one budget. Pure: no clock, no device.

The sessions used least recently lose their keys and values first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from af3stream.engine.contract import Prefix
from af3stream.errors import BudgetExceeded


@dataclass(eq=False, slots=True)
class SessionPrefix:
    """One session's KV prefix.

    Attributes:
        used_at: clock seconds of the last job.
        reserved: bytes that each running job may take, by its id, the kept ones included.
    """

    prefix: Prefix
    used_at: float
    reserved: dict[int, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes that count against the budget."""
        return max(sum(self.reserved.values()), self.prefix.kept_bytes)


class KVCacheManager:
    """Every session's KV prefix within one budget.

    Attributes:
        budget: bytes of keys and values of all sessions; 0: without a bound.

    Args:
        evict_after_s: a session without a job for so long loses its keys and values.
    """

    def __init__(self, budget: int, evict_after_s: float) -> None:
        self.budget = budget
        self._evict_after_s = evict_after_s
        self._sessions: dict[str, SessionPrefix] = {}  # the least recently used first
        self._apart: dict[tuple[str, int], int] = {}  # bytes of running jobs that use no prefix

    @property
    def bytes(self) -> int:
        """Bytes of keys and values that are written, or reserved for a running job."""
        prefixes = sum(own.bytes for own in list(self._sessions.values()))
        return prefixes + sum([*self._apart.values()])

    @property
    def sessions(self) -> int:
        """The sessions whose prefixes have keys and values, or have some reserved."""
        return sum(own.bytes > 0 for own in list(self._sessions.values()))

    def use(self, session: str, prefix: Prefix, now: float) -> None:
        """Note a job that reads or writes a session's prefix."""
        own = self._sessions.pop(session, None) or SessionPrefix(prefix, now)
        own.prefix, own.used_at = prefix, now
        self._sessions[session] = own

    def touch(self, session: str, now: float) -> None:
        """Note a job of a session that does not use its prefix."""
        if own := self._sessions.get(session):
            self.use(session, own.prefix, now)

    def reserve(self, session: str, job: int, needs: Callable[[], int]) -> bool:
        """Make room for a job of a session in `use`; false if it must wait for running jobs.

        Other sessions' prefixes are evicted, and at last the session's own.

        Args:
            needs: the most bytes that the job takes, as things stand.

        Raises:
            BudgetExceeded: if the job does not fit the budget alone.
        """
        if not self.budget:
            return True
        own = self._sessions[session]
        if self._make_room(lambda: self._fits(own, needs()), last=own):
            own.reserved[job] = needs()
            return True
        return self._wait(needs())

    def reserve_apart(self, session: str, job: int, needed: int) -> bool:
        """Make room for a job whose keys and values are its own, as those of a caption; see `reserve`.

        Raises:
            BudgetExceeded: if the job does not fit the budget alone.
        """
        if not (self.budget and needed):
            return True
        if self._make_room(lambda: self.bytes + needed <= self.budget):
            self._apart[session, job] = needed
            return True
        return self._wait(needed)

    def release(self, session: str, job: int) -> None:
        """A job does not run any more: it is done, failed or cancelled, or begins again."""
        self._apart.pop((session, job), None)
        if own := self._sessions.get(session):
            own.reserved.pop(job, None)

    def evict_idle(self, now: float) -> None:
        """Evict the prefixes of sessions that had no job for long."""
        for own in self._sessions.values():
            if now >= own.used_at + self._evict_after_s and not own.reserved:
                own.prefix.evict()

    def evict_all(self) -> None:
        """Evict every prefix."""
        for own in self._sessions.values():
            own.prefix.evict()

    def next_deadline(self) -> float | None:
        """When `evict_idle` is due next, in clock seconds."""
        kept = (own.used_at for own in self._sessions.values() if own.prefix.kept_tokens and not own.reserved)
        first = min(kept, default=None)
        return None if first is None else first + self._evict_after_s

    def forget(self, session: str) -> None:
        """Drop a session's prefix."""
        self._sessions.pop(session, None)

    def _make_room(self, fits: Callable[[], bool], last: SessionPrefix | None = None) -> bool:
        """Evict the prefixes that no running job uses, up to where a job fits; returns whether it does."""
        for other in sorted(self._sessions.values(), key=lambda other: other is last):
            if fits():
                return True
            if not other.reserved:
                other.prefix.evict()
        return fits()

    def _wait(self, needed: int) -> bool:
        """Return false if running jobs will make room.

        Raises:
            BudgetExceeded: if there are none.
        """
        if self._apart or any(own.reserved for own in self._sessions.values()):
            return False
        raise BudgetExceeded("keys and values", needed, self.budget)

    def _fits(self, own: SessionPrefix, needed: int) -> bool:
        return self.bytes - own.bytes + sum(own.reserved.values()) + needed <= self.budget
