"""Watches: standing questions, asked again as windows close or as audio passes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.config import QuestionsConfig
from af3stream.errors import BadText, QueryLimit
from af3stream.protocol.messages import Watch

_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # UAX #9


@dataclass(eq=False, slots=True)
class StandingQuestion:
    """A watch.

    Attributes:
        every: samples at 16 kHz between two askings; ``None``: it is asked as windows close.
        asked_up_to: position at which it was asked last.
    """

    id: str
    text: str
    every: int | None
    asked_up_to: int = 0
    last_answer: str = ""


class Watches:
    """One session's standing questions.

    Attributes:
        windows_closed: position up to which windows are closed and encoded.
    """

    def __init__(self, config: QuestionsConfig) -> None:
        self._config = config
        self._watches: dict[str, StandingQuestion] = {}
        self.windows_closed = 0

    def add(self, message: Watch) -> None:
        """Add a standing question, or replace the one with the same id.

        Raises:
            QueryLimit, BadText: as for a question.
        """
        text = clean(message.text, message.id, self._config)
        every = max(SAMPLE_RATE, round(message.every_s * SAMPLE_RATE)) if message.every_s else None
        known = self._watches.get(message.id)
        if known is not None and (known.text, known.every) == (text, every):
            return  # sent again by a client that resumed
        if known is None and len(self._watches) >= self._config.max_watches:
            raise QueryLimit(f"at most {self._config.max_watches} watches at once", ref=message.id)
        self._watches[message.id] = StandingQuestion(message.id, text, every)

    def remove(self, watch_id: str) -> None:
        """End a standing question."""
        self._watches.pop(watch_id, None)

    def take_due(self, position: int, waiting: Collection[StandingQuestion | None]) -> list[StandingQuestion]:
        """The watches to ask at this position, without those that wait to be answered; they count as asked."""
        due = []
        for watch in self._watches.values():
            if watch.every is None:
                is_due, up_to = self.windows_closed > watch.asked_up_to, self.windows_closed
            else:
                is_due, up_to = position - watch.asked_up_to >= watch.every, position
            if is_due and watch not in waiting:
                watch.asked_up_to = up_to
                due.append(watch)
        return due

    def answered(self, watch: StandingQuestion, text: str) -> bool:
        """Take in a watch's answer; returns whether it is another one, of a watch that still stands."""
        changed = _bare(text) != _bare(watch.last_answer)
        watch.last_answer = text
        return changed and self._watches.get(watch.id) is watch


def clean(text: str, ref: str, config: QuestionsConfig) -> str:
    """A question's text, cleaned.

    Raises:
        QueryLimit: for one that is too long.
        BadText: as `clean_text` does.
    """
    if len(text) > config.max_chars:
        raise QueryLimit(f"a question may have {config.max_chars} characters", ref=ref)
    return clean_text(text, ref)


def clean_text(text: str, ref: str | None = None) -> str:
    """People's words without control and bidirectional formatting characters, white space folded.

    Raises:
        BadText: for lone surrogates, and where no letter, digit or symbol is left.
    """
    if any(unicodedata.category(c) == "Cs" for c in text):
        raise BadText("the text is not valid Unicode", ref=ref)
    spaced = re.sub(r"\s+", " ", text)
    cleaned = "".join(c for c in spaced if unicodedata.category(c) != "Cc" and c not in _BIDI).strip()
    if not any(unicodedata.category(c)[0] in "LNS" for c in cleaned):
        raise BadText("the text holds no words", ref=ref)
    return cleaned


def _bare(text: str) -> str:
    return text.strip(" .!\n").casefold()
