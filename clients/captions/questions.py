"""The questions of one session, and their answers as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from af3stream.protocol.messages import Answer
from clients.answer_range import describe_range
from clients.captions.formatting import clock

State = Literal["waiting", "answering", "answered", "refused"]
FINISHES: Final = {"length": ", cut at the length limit", "cancelled": ", stopped"}


@dataclass(slots=True)
class Question:
    """A question and what is known of its answer.

    Attributes:
        number: counted from 0.
        after: number of the question whose answer it replies to.
        answer: as far as it came.
        note: what the answer heard, or why there is none.
        takes_replies: whether a further question may follow it up.
    """

    number: int
    text: str
    after: int | None = None
    state: State = "waiting"
    answer: str = ""
    note: str = ""
    takes_replies: bool = False


class Questions:
    """Every question of a session, in the order they were asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def ask(self, text: str, after: int | None = None) -> Question:
        """A new question, which replies to the answer of the question with the number ``after``."""
        question = Question(len(self.asked), text, after)
        self.asked.append(question)
        return question

    def piece(self, number: int, text: str) -> Question:
        """The next piece of an answer."""
        question = self.asked[number]
        question.state, question.answer = "answering", question.answer + text
        return question

    def answered(self, number: int, answer: Answer) -> Question:
        """The whole answer, and the range of audio it heard."""
        question = self.asked[number]
        question.state, question.answer = "answered", answer.text.strip()
        ending = FINISHES.get(answer.finish, "")
        question.note = describe_range(answer, clock, lambda seconds: clock(seconds + 0.999)) + ending
        question.takes_replies = bool(answer.question and question.answer)  # a server without them names no question
        return question

    def refused(self, number: int, reason: str) -> Question:
        """There will be no answer, or no more of it."""
        question = self.asked[number]
        question.state, question.note = "refused", reason
        return question
