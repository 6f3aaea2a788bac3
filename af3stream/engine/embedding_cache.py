"""Keep the embeddings of every session's audio within one budget. Pure: no clock, no device, no disk.

The sessions used least recently lose theirs first. What was evicted is read again from the session's `AudioSource` and
encoded again when a job reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from af3stream.engine.contract import AudioSegment, Embeddings
from af3stream.errors import BudgetExceeded


@dataclass(eq=False, slots=True)
class SessionEmbeddings:
    """One session's embeddings.

    Attributes:
        used_at: clock seconds of the last job.
        evictable: whether its audio can be read again.
        resident: segments that are encoded.
        temporary: segments whose samples came with a question; they go when no job names them any more.
        retained: segments that each unfinished job names, by its id.
        pinned: segments that each running job reads, by its id.
        keep_from: position in samples; segments that end up to there go when no job names them any more.
    """

    used_at: float
    evictable: bool = False
    resident: dict[AudioSegment, Embeddings] = field(default_factory=dict)
    temporary: set[AudioSegment] = field(default_factory=set)
    retained: dict[int, frozenset[AudioSegment]] = field(default_factory=dict)
    pinned: dict[int, frozenset[AudioSegment]] = field(default_factory=dict)
    keep_from: int = 0

    def pins(self) -> frozenset[AudioSegment]:
        """Return what running jobs read."""
        return frozenset[AudioSegment]().union(*self.pinned.values())

    def evictables(self) -> list[AudioSegment]:
        """Return what may be evicted, the oldest audio first."""
        if not self.evictable:
            return []
        pins = self.pins()
        return sorted(
            (segment for segment in self.resident if segment not in pins and segment not in self.temporary),
            key=lambda segment: segment.start,
        )

    def useless(self) -> list[AudioSegment]:
        """Return what no job can read any more."""
        needed = frozenset[AudioSegment]().union(*self.retained.values(), *self.pinned.values())
        gone = (s for s in self.resident if s in self.temporary or s.end <= self.keep_from)
        return [segment for segment in gone if segment not in needed]


class EmbeddingCache:
    """Every session's embeddings within one budget.

    Args:
        frame_bytes: of one projected frame.
        budget: bytes of all sessions; 0: without a bound.
        drop_after_s: a session without a job for so long loses its embeddings.
    """

    def __init__(self, frame_bytes: int, budget: int, drop_after_s: float) -> None:
        self._frame_bytes = frame_bytes
        self._budget = budget
        self._drop_after_s = drop_after_s
        self._sessions: dict[str, SessionEmbeddings] = {}  # the least recently used first
        self._changed: set[str] = set()

    @property
    def bytes(self) -> int:
        """Bytes of embeddings that are resident, or that a running job may make. Any thread may read it."""
        sessions = list(self._sessions.values())  # lists, because another thread may change the dictionaries meanwhile
        return self._size(segment for own in sessions for segment in own.pins().union(list(own.resident)))

    def open(self, session: str, now: float, *, evictable: bool) -> None:
        """Begin a session, or go on with one; ``evictable``: its audio can be read again."""
        self.touch(session, now)
        own = self._sessions[session]
        own.evictable = evictable
        if own.resident:  # its listener is another one
            self._changed.add(session)

    def close(self, session: str) -> None:
        """Drop all of a session."""
        self._sessions.pop(session, None)
        self._changed.discard(session)

    def touch(self, session: str, now: float) -> None:
        """Note a job of a session."""
        own = self._sessions.pop(session, None) or SessionEmbeddings(now)
        own.used_at = now
        self._sessions[session] = own

    def retain(self, session: str, job: int, segments: Iterable[AudioSegment]) -> None:
        """Keep what a queued job names, within the budget, until `finish`."""
        self._sessions[session].retained[job] = frozenset(segments)

    def get(self, session: str, segment: AudioSegment) -> Embeddings | None:
        """Return a segment's embeddings, ``None`` if they are not resident."""
        own = self._sessions.get(session)
        return own and own.resident.get(segment)

    def resident(self, session: str) -> frozenset[AudioSegment]:
        """Return the windows of a session whose embeddings are resident."""
        own = self._sessions.get(session)
        return frozenset(own.resident.keys() - own.temporary) if own else frozenset()

    def store(self, session: str, segment: AudioSegment, embeddings: Embeddings, *, temporary: bool = False) -> None:
        """Keep a segment's embeddings; ``temporary``: only for the jobs that name it."""
        if own := self._sessions.get(session):
            own.resident[segment] = embeddings
            (own.temporary.add if temporary else own.temporary.discard)(segment)
            self._changed.add(session)

    def reserve(self, session: str, job: int, segments: Sequence[AudioSegment], now: float) -> bool:
        """Make room for what a job reads, evicting what others have; false if it must wait for running jobs.

        Raises:
            BudgetExceeded: if it does not fit the budget alone.
        """
        self.touch(session, now)
        own = self._sessions[session]
        own.pinned[job] = frozenset(segments)
        for name, segment in self._evictables():
            if self._fits():
                break
            self._evict(name, segment)
        if self._fits():
            return True
        del own.pinned[job]
        if any(other.pinned for other in self._sessions.values()):
            return False
        raise BudgetExceeded("embeddings", self._size(segments), self._budget)

    def release(self, session: str, job: int) -> None:
        """A job does not run any more: it is done, failed or cancelled, or begins again."""
        if own := self._sessions.get(session):
            own.pinned.pop(job, None)

    def finish(self, session: str, job: int) -> None:
        """A job is over: drop what it alone named."""
        if own := self._sessions.get(session):
            own.pinned.pop(job, None)
            own.retained.pop(job, None)
            self._drop_useless(session)

    def keep_from(self, session: str, position: int) -> None:
        """Drop the segments that end up to ``position``, in samples, as soon as no job names them."""
        if own := self._sessions.get(session):
            own.keep_from = max(own.keep_from, position)
            self._drop_useless(session)

    def evict_idle(self, now: float) -> None:
        """Evict what sessions have that had no job for long."""
        for session, own in self._sessions.items():
            if now >= own.used_at + self._drop_after_s and not own.pinned:
                for segment in own.evictables():
                    self._evict(session, segment)

    def evict_all(self) -> None:
        """Evict all that no running job reads."""
        for session, segment in list(self._evictables()):
            self._evict(session, segment)

    def next_deadline(self) -> float | None:
        """When `evict_idle` is due next, in clock seconds."""
        idle = (own for own in self._sessions.values() if not own.pinned)
        first = min((own.used_at for own in idle if own.evictables()), default=None)
        return None if first is None else first + self._drop_after_s

    def take_changed(self) -> set[str]:
        """Return the sessions whose `resident` changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def _evict(self, session: str, segment: AudioSegment) -> None:
        del self._sessions[session].resident[segment]
        self._changed.add(session)

    def _drop_useless(self, session: str) -> None:
        own = self._sessions[session]
        for segment in own.useless():
            self._evict(session, segment)
            own.temporary.discard(segment)

    def _fits(self) -> bool:
        return not self._budget or self.bytes <= self._budget

    def _size(self, segments: Iterable[AudioSegment]) -> int:
        return sum(segment.tokens for segment in segments) * self._frame_bytes

    def _evictables(self) -> Iterator[tuple[str, AudioSegment]]:
        for session, own in list(self._sessions.items()):
            yield from ((session, segment) for segment in own.evictables())
