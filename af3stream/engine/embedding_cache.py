"""Which windows keep their embeddings: those of the sessions used least recently go first, within one budget.

A window without embeddings is cold: its samples are read again, from the journal or from where a session keeps them,
and encoded again when something has to read them. A pure object: the time is an argument, and nothing here touches a
device or a disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from weakref import ref

from af3stream.engine.contract import AudioSegment
from af3stream.engine.jobs import Job
from af3stream.errors import BudgetExceeded


@dataclass(eq=False, slots=True)
class Known:
    """One session's sounds, as long as anybody has them.

    Attributes:
        used_at: clock seconds of the last job.
        pinned: the sounds that jobs under way read.
    """

    used_at: float
    sounds: list[ref[AudioSegment]] = field(default_factory=list)
    pinned: dict[Job, Sequence[AudioSegment]] = field(default_factory=dict)

    def living(self) -> list[AudioSegment]:
        """The sounds that are still there, the oldest first."""
        sounds = [(reference, reference()) for reference in self.sounds]
        self.sounds = [reference for reference, sound in sounds if sound is not None]
        return [sound for _, sound in sounds if sound is not None]


class EmbeddingCache:
    """Every session's embeddings within one budget.

    Args:
        frame_bytes: of one projected frame.
        budget: bytes of all sessions; 0: without a bound.
        drop_after_s: without a job for so long, a session's are dropped.
    """

    def __init__(self, frame_bytes: int, budget: int, drop_after_s: float) -> None:
        self._frame_bytes = frame_bytes
        self._budget = budget
        self._drop_after_s = drop_after_s
        self._known: dict[str, Known] = {}  # the least recently used first

    @property
    def bytes(self) -> int:
        """Bytes of embeddings that are there, or that a job under way may make."""
        taking = {id(sound): sound.tokens for sound in self._living() if sound.embeddings is not None}
        taking |= {id(sound): sound.tokens for sound in self._pinned()}
        return sum(taking.values()) * self._frame_bytes

    @property
    def reserved(self) -> int:
        """Bytes of what jobs under way read."""
        return sum({id(sound): sound.tokens for sound in self._pinned()}.values()) * self._frame_bytes

    def touch(self, session: str, now: float) -> None:
        """Note a job of a session."""
        known = self._known.pop(session, None) or Known(now)
        known.used_at = now
        self._known[session] = known

    def reserve(self, session: str, job: Job, sounds: Sequence[AudioSegment], now: float) -> bool:
        """Make room for what a job reads, dropping what others have; false where it must wait for jobs under way.

        Raises:
            BudgetExceeded: where it does not fit the budget alone.
        """
        self.touch(session, now)
        own = self._known[session]
        seen = {id(sound) for sound in own.living()}
        own.sounds += [ref(sound) for sound in sounds if id(sound) not in seen]
        own.pinned[job] = sounds
        for sound in self._droppable():
            if self._fits():
                break
            sound.embeddings = None
        if self._fits():
            return True
        del own.pinned[job]
        if any(known.pinned for known in self._known.values()):
            return False
        needed = sum(sound.tokens for sound in sounds) * self._frame_bytes
        raise BudgetExceeded("embeddings", needed, self._budget)

    def release(self, session: str, job: Job) -> None:
        """A job is done, failed or cancelled."""
        if known := self._known.get(session):
            known.pinned.pop(job, None)

    def drop_idle(self, now: float) -> None:
        """Drop what sessions have that had no job for long, and forget the sessions that have nothing."""
        for session, known in list(self._known.items()):
            if now >= known.used_at + self._drop_after_s and not known.pinned:
                for sound in [sound for sound in known.living() if sound.droppable]:
                    sound.embeddings = None
            if not known.living() and not known.pinned:
                del self._known[session]

    def drop_all(self) -> None:
        """Give up all that no job under way reads."""
        for sound in self._droppable():
            sound.embeddings = None

    def next_deadline(self) -> float | None:
        """When `drop_idle` is due next, in clock seconds."""
        idle = (known for known in self._known.values() if not known.pinned)
        first = min((known.used_at for known in idle if any(s.droppable for s in known.living())), default=None)
        return None if first is None else first + self._drop_after_s

    def _fits(self) -> bool:
        return not self._budget or self.bytes <= self._budget

    def _living(self) -> Iterator[AudioSegment]:
        return (sound for known in self._known.values() for sound in known.living())

    def _pinned(self) -> Iterator[AudioSegment]:
        return (sound for known in self._known.values() for sounds in known.pinned.values() for sound in sounds)

    def _droppable(self) -> list[AudioSegment]:
        """What no job under way reads, and can be made again."""
        pinned = {id(sound) for sound in self._pinned()}
        return [sound for sound in self._living() if sound.droppable and id(sound) not in pinned]
