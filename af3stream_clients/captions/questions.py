"""Questions of one session, and their answers as they arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from af3stream.protocol.messages import Answer
from af3stream_clients.answer_range import describe_range
from af3stream_clients.captions.formatting import clock

State = Literal["waiting", "answering", "answered", "refused"]
FINISHES: Final = {"length": ", cut at the length limit", "cancelled": ", stopped"}


@dataclass(slots=True)
class Question:
    """A question, and its answer so far.

    Attributes:
        number: counted from 0.
        after: number of the question that it follows up.
        answer: the text so far.
        note: the range that the answer heard, or why there is no answer.
        takes_replies: whether another question may follow it up.
    """

    number: int
    text: str
    after: int | None = None
    state: State = "waiting"
    answer: str = ""
    note: str = ""
    takes_replies: bool = False


class Questions:
    """All questions of a session, in the order in which they were asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def ask(self, text: str, after: int | None = None) -> Question:
        """Add a question; ``after`` is the number of the question that it follows up."""
        question = Question(len(self.asked), text, after)
        self.asked.append(question)
        return question

    def piece(self, number: int, text: str) -> Question:
        """Append a piece to an answer."""
        question = self.asked[number]
        question.state, question.answer = "answering", question.answer + text
        return question

    def answered(self, number: int, answer: Answer) -> Question:
        """Set the whole answer, and the range of audio that it heard."""
        question = self.asked[number]
        question.state, question.answer = "answered", answer.text.strip()
        ending = FINISHES.get(answer.finish, "")
        question.note = describe_range(answer, clock, lambda seconds: clock(seconds + 0.999)) + ending
        question.takes_replies = bool(
            answer.question and question.answer
        )  # a server without follow-ups sends no question
        return question

    def refused(self, number: int, reason: str) -> Question:
        """Mark a question as refused, with the reason."""
        question = self.asked[number]
        question.state, question.note = "refused", reason
        return question
