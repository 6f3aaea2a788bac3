"""Watches: standing questions, asked again as windows close or as audio passes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from af3stream.audio import SAMPLE_RATE
from af3stream.config import QuestionsConfig
from af3stream.errors import QueryLimit
from af3stream.protocol.messages import Watch
from af3stream.session.question_text import clean


@dataclass(eq=False, slots=True)
class StandingQuestion:
    """A watch.

    Attributes:
        every: samples at 16 kHz from one asking to the next; ``None``: it is asked whenever a window closes.
        asked_up_to: the position at which it was asked last.
    """

    id: str
    text: str
    every: int | None
    asked_up_to: int = 0
    last_answer: str = ""


class Watches:
    """One session's standing questions.

    Attributes:
        windows_closed: the position up to which windows are closed and encoded.
    """

    def __init__(self, config: QuestionsConfig) -> None:
        self._config = config
        self._watches: dict[str, StandingQuestion] = {}
        self.windows_closed = 0

    def add(self, message: Watch) -> None:
        """Add a standing question, or replace the one with the same id.

        Raises:
            QueryLimit: for too many watches, or for a text that is too long.
            BadText: for a text without words.
        """
        text = clean(message.text, message.id, self._config)
        every = max(SAMPLE_RATE, round(message.every_s * SAMPLE_RATE)) if message.every_s else None
        known = self._watches.get(message.id)
        if known is not None and (known.text, known.every) == (text, every):
            return  # a client that resumed sent it again
        if known is None and len(self._watches) >= self._config.max_watches:
            raise QueryLimit(f"at most {self._config.max_watches} watches at once", ref=message.id)
        self._watches[message.id] = StandingQuestion(message.id, text, every)

    def remove(self, watch_id: str) -> None:
        """Remove a standing question if it is there."""
        self._watches.pop(watch_id, None)

    def take_due(self, position: int, pending: Collection[StandingQuestion | None]) -> list[StandingQuestion]:
        """Return the watches to ask at a position, and note that they are asked; not those that are ``pending``."""
        due = []
        for watch in self._watches.values():
            if watch.every is None:
                is_due, up_to = self.windows_closed > watch.asked_up_to, self.windows_closed
            else:
                is_due, up_to = position - watch.asked_up_to >= watch.every, position
            if is_due and watch not in pending:
                watch.asked_up_to = up_to
                due.append(watch)
        return due

    def answered(self, watch: StandingQuestion, text: str) -> bool:
        """Take a watch's answer; returns whether it differs from the last one, and the watch is still there."""
        changed = _normalised(text) != _normalised(watch.last_answer)
        watch.last_answer = text
        return changed and self._watches.get(watch.id) is watch


def _normalised(text: str) -> str:
    return text.strip(" .!\n").casefold()
