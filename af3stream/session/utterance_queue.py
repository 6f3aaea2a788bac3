"""The closed utterances of a session that wait for their final captions, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from af3stream.audio.events import Utterance


class UtteranceQueue:
    """Utterances in order, each with its number as index.

    An utterance that may still be divided is **held**: those behind it move on by the number of its other parts. Held
    utterances are the newest ones.

    Attributes:
        open: the number of the open utterance, or of the next one.
    """

    def __init__(self) -> None:
        self.open = 0
        self._waiting: dict[int, Utterance] = {}
        self._closed_as: dict[int, int] = {}  # by number of a waiting utterance: which one the segmenter closed
        self._held = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, number: int) -> bool:
        return number in self._waiting

    @property
    def all(self) -> list[Utterance]:
        """Those that wait."""
        return [*self._waiting.values()]

    @property
    def oldest(self) -> Utterance | None:
        """The first that waits."""
        return next(iter(self._waiting.values()), None)

    @property
    def oldest_held(self) -> int:
        """The number of the oldest utterance that may still be divided, or of the next one."""
        return self.open - self._held

    def closed_before(self, utterances: int) -> bool:
        """Return whether the oldest was among the first so many utterances, counted before any was divided."""
        oldest = self.oldest
        return oldest is not None and self._closed_as.get(oldest.index, oldest.index) < utterances

    def add(self, utterance: Utterance, *, hold: bool = False) -> Utterance:
        """Add an utterance that closed; returns it with its number. ``hold``: it may still be divided."""
        self._held += hold
        return self._number(utterance, utterance.index)

    def divide(self, parts: Sequence[Utterance]) -> list[Utterance]:
        """Put these parts in the place of the oldest held utterance; returns them with their numbers."""
        numbers = range(self.oldest_held, self.open)
        (_, closed_as), *behind = [(self._waiting.pop(number), self._closed_as.pop(number)) for number in numbers]
        self.open = numbers.start
        self._held -= 1
        numbered = [self._number(part, closed_as) for part in parts]
        for utterance, closed in behind:
            self._number(utterance, closed)
        return numbered

    def take(self, number: int) -> Utterance:
        """Remove an utterance, because its final caption is there."""
        self._closed_as.pop(number, None)
        return self._waiting.pop(number)

    def put_back(self, utterance: Utterance) -> None:
        """Let an utterance wait again, in its place: its caption is to be corrected."""
        self._waiting[utterance.index] = utterance
        self._waiting = dict(sorted(self._waiting.items()))

    def _number(self, utterance: Utterance, closed_as: int) -> Utterance:
        """Give an utterance the next number."""
        numbered = replace(utterance, index=self.open)
        self._waiting[self.open], self._closed_as[self.open] = numbered, closed_as
        self.open += 1
        return numbered
