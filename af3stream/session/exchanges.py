"""The questions that were answered, for those that follow them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from af3stream.engine.contract import Turn
from af3stream.protocol.messages import Answer

MOST_EXCHANGES: Final = 1_024  # of one session, the newest
MOST_TURNS: Final = 32  # of one conversation, the newest


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question, its answer, and what it followed.

    Attributes:
        ref: what names its answer: the event where there is one, else the question's id.
        turns: oldest first; the last is its own.
        question: its text; empty where it is not kept.
    """

    ref: int | str
    turns: tuple[Turn, ...]
    question: str = ""


class Exchanges:
    """The newest answers of one session, by event and by question."""

    def __init__(self) -> None:
        self._found: dict[int | str, Exchange] = {}

    def add(self, answer: Answer) -> None:
        """Take in an answer that is told. One without words, or without its question, is no turn of its own."""
        before = self.find(answer.after) if answer.after is not None else None
        turns = before.turns if before else ()
        if answer.question and answer.text.strip():
            turns = (*turns, Turn(answer.question, answer.text))[-MOST_TURNS:]
        exchange = Exchange(answer.event or answer.id, turns, answer.question)
        for ref in {answer.id, exchange.ref}:
            self._found.pop(ref, None)
            self._found[ref] = exchange
        while len(self._found) > 2 * MOST_EXCHANGES:
            del self._found[next(iter(self._found))]

    def find(self, ref: int | str) -> Exchange | None:
        """Return what ends with the answer of an event, or with the newest answer to a question of an id."""
        return self._found.get(ref)
