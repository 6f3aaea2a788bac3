"""The questions that were answered, for questions that follow them up, and for those that are sent again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from af3stream.engine.contract import Turn
from af3stream.protocol.messages import Answer

MOST_EXCHANGES: Final = 1_024  # the newest of one session; far more than a client has unanswered when it resumes
MOST_TURNS: Final = 32  # the newest of one conversation


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question, its answer, and the turns before it.

    Attributes:
        ref: what names its answer: the number of its event if it is kept, else the question's id.
        turns: oldest first; the last is its own.
        question: its text; empty if the journal does not have it.
    """

    ref: int | str
    turns: tuple[Turn, ...]
    question: str = ""

    @property
    def kept(self) -> bool:
        """Whether the answer is a numbered event, which a client that resumes is sent again."""
        return isinstance(self.ref, int)


class Exchanges:
    """The newest answers of one session, by event and by question."""

    def __init__(self) -> None:
        self._found: dict[int | str, Exchange] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, answer: Answer) -> None:
        """Add an answer. One without words, or without its question, is no turn of its own."""
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
        """Return the exchange of an event, or the newest one of a question's id."""
        return self._found.get(ref)
