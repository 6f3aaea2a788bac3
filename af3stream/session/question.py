"""One question: its status, and its way from the queue through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from af3stream.engine.contract import Completion
from af3stream.engine.jobs import AnswerJob, CaptionJob
from af3stream.protocol import messages as m
from af3stream.session.exchanges import Exchange
from af3stream.session.ledger import seconds
from af3stream.session.prompt_body import PromptBody
from af3stream.session.watches import StandingQuestion


class Status(Enum):
    """A question's status."""

    QUEUED = "queued"
    WAITING = "waiting for captions"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


NEXT: Final = {
    Status.QUEUED: (Status.WAITING, Status.CANCELLED),
    Status.WAITING: (Status.RUNNING, Status.DONE, Status.CANCELLED),
    Status.RUNNING: (Status.DONE, Status.CANCELLED),
    Status.DONE: (),
    Status.CANCELLED: (),
}


@dataclass(eq=False, slots=True)
class Question:
    """A question as it was asked.

    Attributes:
        last_s: the seconds it asks about; ``None`` for everything.
        asked_at: clock seconds.
        after: what it follows up: an exchange, or the id of a question that is answered before it.
        watch: the standing question it is asked for.
        status: changed by `move` alone.
    """

    id: str
    text: str
    last_s: float | None
    max_tokens: int
    asked_at: float
    after: Exchange | str | None = None
    watch: StandingQuestion | None = None
    status: Status = Status.QUEUED

    def move(self, status: Status) -> None:
        """Change the status.

        Raises:
            ValueError: for a change that is not in `NEXT`.
        """
        if status not in NEXT[self.status]:
            raise ValueError(f"a question that is {self.status.value} cannot become {status.value}")
        self.status = status

    def empty_answer(self, text: str, at: float, finish: m.Finish, after: int | str | None) -> m.Answer:
        """Return an answer that the model did not write, at a position in seconds."""
        return m.Answer(self.id, text, at, at, 0, 0, finish, question=self.text, after=after)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question whose turn it is, and that waits for captions.

    Attributes:
        utterances: it waits for the final captions of all utterances before this one.
        draft: the job of the partial caption that it waits for; ``None`` if it waits for none.
        until: when it waits no longer, in clock seconds.
    """

    question: Question
    utterances: int
    draft: CaptionJob | None
    until: float


@dataclass(eq=False, slots=True)
class Running:
    """A question that the engine answers.

    Attributes:
        body: the prompt it reads.
        instead: the prompt it reads if the KV prefix is evicted.
        after: the reference of what it follows up.
        pieces: the answer so far.
        first_token_at: clock seconds.
        completion: the engine's last word on the answer; after it the job ends.
    """

    question: Question
    job: AnswerJob
    body: PromptBody
    instead: PromptBody | None
    after: int | str | None
    pieces: list[str] = field(default_factory=list)
    first_token_at: float | None = None
    completion: Completion | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.pieces)

    def answer(self, tokens: int, finish: m.Finish, ttft_ms: float | None) -> m.Answer:
        """Return the answer message."""
        covered = self.body.coverage
        return m.Answer(
            self.question.id,
            self.text,
            seconds(covered.start),
            seconds(covered.end),
            covered.windows,
            tokens,
            finish,
            ttft_ms,
            heard_until=_seconds(covered.heard_until),
            captions_from=_seconds(covered.captions_from),
            captioned_until=_seconds(covered.captioned_until),
            question=self.question.text,
            after=self.after,
        )


def _seconds(position: int | None) -> float | None:
    return None if position is None else seconds(position)
