"""A session's questions: queued, answered one at a time, and told; follow-ups, and watches beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from af3stream.config import QuestionsConfig
from af3stream.engine.contract import Completion, Turn
from af3stream.engine.jobs import AnswerJob, Failed, PrefixLost, Result
from af3stream.errors import QueryLimit, UnknownQuestion
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.body import Body
from af3stream.session.caption_track import Wanted
from af3stream.session.exchanges import Exchange, Exchanges
from af3stream.session.faults import failure
from af3stream.session.ledger import seconds
from af3stream.session.watches import StandingQuestion, Watches, clean

NOTHING_HEARD: Final = "Nothing was heard in this range."


class Status(Enum):
    """Where a question stands."""

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


@dataclass(frozen=True, slots=True)
class Wait:
    """What a question whose turn it is waits for, and until when in clock seconds."""

    wanted: Wanted
    until: float


@dataclass(eq=False, slots=True)
class Run:
    """A question's way through the engine.

    Attributes:
        body: what it reads.
        instead: what it reads if the engine has given up the kept prefix.
    """

    job: AnswerJob
    body: Body
    instead: Body | None
    pieces: list[str] = field(default_factory=list)
    first_token_at: float | None = None
    completion: Completion | None = None

    @property
    def text(self) -> str:
        """The answer as far as it came."""
        return "".join(self.pieces)


@dataclass(eq=False, slots=True)
class Question:
    """One question on its way.

    Attributes:
        last_s: seconds it asks about, ``None`` for everything.
        asked_at: clock time of its arrival.
        after: what it follows up: what was answered, or the id of a question that is to be answered before it.
        watch: the standing question it is asked for.
        status: changed by `move` alone.
        wait: while it waits.
        run: from when it is run on.
    """

    id: str
    text: str
    last_s: float | None
    max_tokens: int
    asked_at: float
    after: Exchange | str | None = None
    watch: StandingQuestion | None = None
    status: Status = Status.QUEUED
    wait: Wait | None = None
    run: Run | None = None

    def move(self, status: Status) -> None:
        """Change the status, as the table allows."""
        if status not in NEXT[self.status]:
            raise ValueError(f"a question that is {self.status.value} cannot become {status.value}")
        self.status = status


class Questions:
    """One session's questions, answered one after the other in the order they came; watches come after them.

    Args:
        exchanges: what was answered.
        count_turn: positions of an earlier turn of the chat.
    """

    def __init__(
        self, config: QuestionsConfig, metrics: Metrics, exchanges: Exchanges, count_turn: Callable[[Turn], int]
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._exchanges = exchanges
        self._count_turn = count_turn
        self._watches = Watches(config)
        self._open: list[Question] = []  # neither done nor cancelled; only the first may be past `QUEUED`
        self.watch = self._watches.add

    # ---- what a client says ------------------------------------------------------------------------------------------

    def ask(self, message: m.Ask, now: float) -> None:
        """Queue a question.

        Raises:
            QueryLimit: where too many wait, the id is in use, or the text is too long.
            BadText: for a text without words.
            UnknownQuestion: where it follows up what is not there.
        """
        text = clean(message.text, message.id, self._config)
        own = [question for question in self._open if question.watch is None]
        if any(question.id == message.id and question.text == text for question in own):
            return  # sent again by a client that resumed
        if len(own) >= self._config.max_waiting:
            raise QueryLimit(f"at most {self._config.max_waiting} questions may wait at once", ref=message.id)
        if any(question.id == message.id for question in own):
            raise QueryLimit("this question's id is in use", ref=message.id)
        after = self._followed(message.after, own, message.id)
        tokens = min(message.max_tokens or self._config.max_tokens, self._config.max_tokens)
        last_s = message.scope.last_s if message.scope else None
        watched = (i for i, other in enumerate(self._open) if other.watch and other.status is Status.QUEUED)
        place = next(watched, len(self._open))
        self._open.insert(place, Question(message.id, text, last_s, tokens, now, after))

    def asked_again(self, message: m.Ask) -> None:
        """Take a question whose id was answered before: nothing follows if a client that resumed sent it again.

        Raises:
            QueryLimit: where it is another question.
            BadText: as for a question.
        """
        known = self._exchanges.find(message.id)
        if known and known.question not in ("", clean(message.text, message.id, self._config)):
            raise QueryLimit("this question's id is in use", ref=message.id)

    def unwatch(self, watch_id: str) -> None:
        """End a standing question; an answer under way for it is not told."""
        self._watches.remove(watch_id)
        for question in [q for q in self._open if q.watch and q.watch.id == watch_id and q.status is Status.QUEUED]:
            self._close(question, Status.CANCELLED)

    def cancel(self, question_id: str, at: float) -> tuple[AnswerJob | None, m.Answer | None]:
        """Take a question back: the job to drop, where one is running, and the answer as far as it came."""
        found = (question for question in self._open if question.id == question_id and question.watch is None)
        question = next(found, None)
        if question is None:
            return None, None
        self._close(question, Status.CANCELLED)
        if question.run is None:
            return None, self._empty(question, "", at, "cancelled")
        return question.run.job, self._answer(question, question.run, 0, "cancelled", None)

    # ---- its turn ----------------------------------------------------------------------------------------------------

    @property
    def turn(self) -> Question | None:
        """The question that is next to run; ``None`` where none waits, and while one is running."""
        first = self._open[0] if self._open else None
        return first if first and first.status is not Status.RUNNING else None

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be answered."""
        return not self._open

    @property
    def running(self) -> bool:
        """Whether the engine answers a question now."""
        return any(question.status is Status.RUNNING for question in self._open)

    @property
    def waits_until(self) -> float | None:
        """Until when a question waits for captions at most, in clock seconds."""
        turn = self.turn
        return turn.wait.until if turn and turn.wait else None

    def wait(self, question: Question, wanted: Wanted, until: float) -> Wait:
        """It is a question's turn: it waits for these words, until then."""
        question.move(Status.WAITING)
        question.wait = Wait(wanted, until)
        return question.wait

    def earlier(self, question: Question) -> tuple[Turn, ...]:
        """The newest turns that a question follows, as many as fit.

        Raises:
            UnknownQuestion: where the question that it was to follow got no answer.
        """
        exchange = question.after
        if isinstance(exchange, str):
            exchange = self._exchanges.find(exchange)
            if exchange is None:
                raise UnknownQuestion("the question that this one follows up was not answered", ref=question.id)
            question.after = exchange
        turns: list[Turn] = []
        room = self._config.earlier_max_tokens
        for turn in reversed(exchange.turns if exchange else ()):
            room -= self._count_turn(turn)
            if room < 0:
                break
            turns.insert(0, turn)
        return tuple(turns)

    def begin(self, question: Question, body: Body, instead: Body | None, earlier: tuple[Turn, ...]) -> AnswerJob:
        """The job that answers a question over a body."""
        other = instead.parts if instead else ()
        samples = {**body.samples, **(instead.samples if instead else {})}
        job = AnswerJob(body.parts, question.text, question.max_tokens, earlier, body.prefix, other, samples)
        question.move(Status.RUNNING)
        question.run = Run(job, body, instead)
        return job

    def refuse(self, question: Question) -> None:
        """A question cannot be answered, as was told."""
        self._close(question, Status.DONE)

    def nothing_heard(self, question: Question, at: float) -> list[m.ServerMessage]:
        """Answer a question about a range without any audio, without the model."""
        self._close(question, Status.DONE)
        if question.watch:
            return []
        return [m.AnswerDelta(question.id, NOTHING_HEARD), self._empty(question, NOTHING_HEARD, at, "stop")]

    # ---- its answer --------------------------------------------------------------------------------------------------

    def heard(self, job: AnswerJob, result: Result, done: bool, now: float) -> list[m.ServerMessage]:
        """The engine wrote a piece of an answer, or finished it."""
        question = self._open[0] if self._open else None
        run = question.run if question else None
        if question is None or run is None or run.job is not job:
            return []
        messages: list[m.ServerMessage] = []
        if isinstance(result, str):
            messages += self._piece(question, run, result, now)
        elif isinstance(result, Completion):
            run.completion = result
        elif isinstance(result, PrefixLost):
            run.body = run.instead or run.body
        elif isinstance(result, Failed):
            messages.append(failure("the question could not be answered", result, ref=question.id))
        if done:
            self._close(question, Status.DONE)
            if run.completion is not None:
                messages += self._finished(question, run, run.completion, now)
        return messages

    def window_closed(self, position: int) -> None:
        """A window closed and is encoded: watches without an interval of their own are due."""
        self._watches.windows_closed = position

    def audio_passed(self, position: int, now: float) -> None:
        """Queue the watches that are due at this position, each unless it waits already."""
        waiting = [question.watch for question in self._open]
        for watch in self._watches.take_due(position, waiting):
            self._open.append(Question(watch.id, watch.text, None, self._config.max_tokens, now, watch=watch))

    def _piece(self, question: Question, run: Run, piece: str, now: float) -> list[m.ServerMessage]:
        if run.first_token_at is None:
            run.first_token_at = now
        run.pieces.append(piece)
        return [] if question.watch else [m.AnswerDelta(question.id, piece)]

    def _finished(self, question: Question, run: Run, completion: Completion, now: float) -> list[m.ServerMessage]:
        if question.watch:
            changed = self._watches.answered(question.watch, run.text)
            reach = run.body.reach
            hit = m.WatchHit(question.watch.id, run.text, seconds(reach.start), seconds(reach.end))
            return [hit] if changed else []
        ttft_s = (run.first_token_at or now) - question.asked_at
        self._metrics.first_token.observe(ttft_s)
        self._metrics.answer.observe(now - question.asked_at)
        return [self._answer(question, run, completion.tokens, completion.finish, round(ttft_s * 1_000, 1))]

    def _answer(self, question: Question, run: Run, tokens: int, finish: m.Finish, ttft_ms: float | None) -> m.Answer:
        reach = run.body.reach
        return m.Answer(
            question.id,
            run.text,
            seconds(reach.start),
            seconds(reach.end),
            reach.windows,
            tokens,
            finish,
            ttft_ms,
            heard_until=_seconds(reach.heard_until),
            captions_from=_seconds(reach.captions_from),
            captioned_until=_seconds(reach.captioned_until),
            question=question.text,
            after=_ref(question),
        )

    def _empty(self, question: Question, text: str, at: float, finish: m.Finish) -> m.Answer:
        return m.Answer(question.id, text, at, at, 0, 0, finish, question=question.text, after=_ref(question))

    def _followed(self, after: int | str | None, open_questions: list[Question], ref: str) -> Exchange | str | None:
        """What a question follows up. One that is still to be answered has its newest answer to come."""
        if after is None:
            return None
        if isinstance(after, str) and any(question.id == after for question in open_questions):
            return after
        if (found := self._exchanges.find(after)) is None:
            raise UnknownQuestion("there is no such answer to follow up", ref=ref)
        return found

    def _close(self, question: Question, status: Status) -> None:
        question.move(status)
        self._open.remove(question)


def _ref(question: Question) -> int | str | None:
    return question.after.ref if isinstance(question.after, Exchange) else question.after


def _seconds(position: int | None) -> float | None:
    return None if position is None else seconds(position)
