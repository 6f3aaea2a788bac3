"""A session's questions: queued, answered one at a time, and told; follow-ups and watches included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from af3stream.config import QuestionsConfig
from af3stream.engine.contract import Completion, TokenCounter, Turn
from af3stream.engine.jobs import AnswerJob, Failed, PrefixLost, Result
from af3stream.errors import QueryLimit, UnknownQuestion
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.audio_pipeline import AudioPipeline
from af3stream.session.exchanges import Exchange, Exchanges
from af3stream.session.job_tracker import JobTracker
from af3stream.session.ledger import seconds
from af3stream.session.question import Question, Running, Status, Waiting
from af3stream.session.question_text import clean
from af3stream.session.server_messages import failure
from af3stream.session.session_traces import SessionTraces
from af3stream.session.watches import Watches

NOTHING_HEARD: Final = "Nothing was heard in this range."


class Questions:
    """One session's questions and their answers.

    Questions are answered one after the other, in the order in which they came; watches come after them.

    Args:
        tokens: counts the positions of a prompt.
        pipeline: composes prompts, and has captioned what a question needs.
        jobs: where jobs for the engine go.
        traces: of the questions; ``None``: they are not traced.
    """

    def __init__(
        self,
        config: QuestionsConfig,
        tokens: TokenCounter,
        pipeline: AudioPipeline,
        jobs: JobTracker,
        metrics: Metrics,
        traces: SessionTraces | None = None,
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._pipeline = pipeline
        self._jobs = jobs
        self._metrics = metrics
        self._traces = traces
        self._exchanges = Exchanges()
        self._watches = Watches(config)
        self._turn: Waiting | Running | None = None  # the question whose turn it is
        self._queue: list[Question] = []  # those after it

    # ---- requests ----------------------------------------------------------------------------------------------------

    def ask(self, message: m.Ask, now: float) -> None:
        """Queue a question. The same id with the same text is the same question, and is not queued again.

        Of a session that is kept, that holds for the ids of the newest `MOST_EXCHANGES` answers; an older id is free.

        Raises:
            QueryLimit: if too many wait, the id is in use, or the text is too long.
            BadText: for a text without words.
            UnknownQuestion: if it follows up what is not there.
        """
        text = clean(message.text, message.id, self._config)
        known = self._exchanges.find(message.id)
        if known is not None and known.kept:
            if known.question not in ("", text):
                raise QueryLimit("this question's id is in use", ref=message.id)
            return
        asked = [question for question in self._open if question.watch is None]
        if any(question.id == message.id and question.text == text for question in asked):
            return
        if len(asked) >= self._config.max_waiting:
            raise QueryLimit(f"at most {self._config.max_waiting} questions may wait at once", ref=message.id)
        if any(question.id == message.id for question in asked):
            raise QueryLimit("this question's id is in use", ref=message.id)
        after: Exchange | str | None = None
        if isinstance(message.after, str) and any(question.id == message.after for question in asked):
            after = message.after
        elif message.after is not None and (after := self._exchanges.find(message.after)) is None:
            raise UnknownQuestion("there is no such answer to follow up", ref=message.id)
        tokens = min(message.max_tokens or self._config.max_tokens, self._config.max_tokens)
        last_s = message.scope.last_s if message.scope else None
        place = next((i for i, other in enumerate(self._queue) if other.watch), len(self._queue))
        self._queue.insert(place, Question(message.id, text, last_s, tokens, now, after))
        if self._traces:
            self._traces.asked(message.id)

    def cancel(self, question_id: str) -> list[m.ServerMessage]:
        """Cancel a question; returns the answer as far as it came. An unknown id is ignored."""
        question = next((each for each in self._open if each.id == question_id and each.watch is None), None)
        if question is None:
            return []
        turn = self._turn
        self._close(question, Status.CANCELLED)
        if isinstance(turn, Running) and turn.question is question:
            self._jobs.cancel(turn.job)
            return [turn.answer(0, "cancelled", None)]
        after = question.after.ref if isinstance(question.after, Exchange) else question.after
        return [question.empty_answer("", seconds(self._pipeline.position), "cancelled", after)]

    def watch(self, message: m.Watch) -> None:
        """Add a standing question; raises as `Watches.add` does."""
        self._watches.add(message)

    def unwatch(self, watch_id: str) -> None:
        """Remove a standing question; an answer on its way is not told."""
        self._watches.remove(watch_id)
        for question in [each for each in self._queue if each.watch and each.watch.id == watch_id]:
            self._close(question, Status.CANCELLED)

    # ---- queries -----------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no question is queued, waiting or running."""
        return not self._open

    @property
    def waits_until(self) -> float | None:
        """Until when a question waits for captions at most, in clock seconds; ``None`` if none waits."""
        return self._turn.until if isinstance(self._turn, Waiting) else None

    @property
    def _open(self) -> list[Question]:
        """The questions that are neither done nor cancelled, in the order of their turns."""
        return [*([self._turn.question] if self._turn else []), *self._queue]

    # ---- turns -------------------------------------------------------------------------------------------------------

    def window_closed(self) -> None:
        """Take the news that another window can be read: watches without an interval are due."""
        self._watches.windows_closed = self._pipeline.position

    def record(self, answer: m.Answer) -> None:
        """Note an answer as it was told, or as the journal has it, so that it can be followed up."""
        self._exchanges.add(answer)

    def advance(self, now: float) -> Iterator[m.ServerMessage]:
        """Queue the watches that are due, and give questions their turn.

        A question runs once it has the captions that it waits for, or has waited long enough. Each message must be told
        and recorded before the next is taken, because the next question may follow it up.
        """
        pending = [question.watch for question in self._open]
        for watch in self._watches.take_due(self._pipeline.position, pending):
            self._queue.append(Question(watch.id, watch.text, None, self._config.max_tokens, now, watch=watch))
        while not isinstance(self._turn, Running):
            if self._turn is None:
                if not self._queue:
                    return
                self._turn = self._wait(self._queue.pop(0), now)
            turn = self._turn
            if now < turn.until and not self._pipeline.track.has(turn.utterances, turn.draft):
                return
            yield from self._run(turn.question)

    def _wait(self, question: Question, now: float) -> Waiting:
        """Have captioned what a question needs, unless that comes too late anyway."""
        question.move(Status.WAITING)
        pipeline, wait_s = self._pipeline, self._config.captions_wait_s
        if not (wait_s and pipeline.captions_in_prompt) or pipeline.track.are_late(pipeline.position):
            return Waiting(question, 0, None, now)
        draft = pipeline.utterance.draft_for_question(now) if pipeline.utterance.draft_is_stale else None
        return Waiting(question, pipeline.utterances, draft, now + wait_s)

    def _run(self, question: Question) -> Iterator[m.ServerMessage]:
        """Have a question answered over what is there now."""
        exchange = self._exchanges.find(question.after) if isinstance(question.after, str) else question.after
        if question.after is not None and exchange is None:
            self._close(question, Status.DONE)
            message = "the question that this one follows up was not answered"
            yield m.error(UnknownQuestion(message, ref=question.id))
            return
        earlier, after = self._earlier(exchange), exchange.ref if exchange else None
        names = self._pipeline.context.introduction()
        tokens = self._tokens.count(question.text) + self._tokens.count(names.text)
        tokens += sum(self._tokens.count_turn(turn) for turn in earlier)
        self._pipeline.context.start_reading()
        body, instead = self._pipeline.context.prompt(question.last_s, tokens)
        if body is None:
            self._close(question, Status.DONE)
            if question.watch is None:
                yield m.AnswerDelta(question.id, NOTHING_HEARD)
                yield question.empty_answer(NOTHING_HEARD, seconds(self._pipeline.position), "stop", after)
            return
        body, instead = body.beside(names), instead and instead.beside(names)
        other = instead.parts if instead else ()
        samples = {**body.samples, **(instead.samples if instead else {})}
        trace = self._traces.run(question.id) if self._traces and question.watch is None else ""
        job = AnswerJob(body.parts, question.text, question.max_tokens, earlier, body.prefix, other, samples, trace)
        question.move(Status.RUNNING)
        self._turn = Running(question, job, body, instead, after)
        self._jobs.submit(job)

    @property
    def running(self) -> bool:
        """Whether the engine answers a question now."""
        return isinstance(self._turn, Running)

    def _earlier(self, exchange: Exchange | None) -> tuple[Turn, ...]:
        """Return the newest turns of an exchange that fit."""
        turns: list[Turn] = []
        room = self._config.earlier_max_tokens
        for turn in reversed(exchange.turns if exchange else ()):
            room -= self._tokens.count_turn(turn)
            if room < 0:
                break
            turns.insert(0, turn)
        return tuple(turns)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def complete(self, job: AnswerJob, result: Result, done: bool, now: float) -> list[m.ServerMessage]:
        """Take a result of an answer job: a piece of the answer, its completion, or a failure."""
        run = self._turn
        if not isinstance(run, Running) or run.job is not job:
            return []
        question, messages = run.question, list[m.ServerMessage]()
        match result:
            case str():
                if run.first_token_at is None:
                    run.first_token_at = now
                    if self._traces and question.watch is None:
                        self._traces.first_token(question.id)
                run.pieces.append(result)
                messages += [] if question.watch else [m.AnswerDelta(question.id, result)]
            case Completion():
                run.completion = result
            case PrefixLost():
                run.body = run.instead or run.body
            case Failed():
                messages.append(failure("the question could not be answered", result, ref=question.id))
        if done:
            self._close(question, Status.DONE)
            if run.completion is not None:
                messages += self._answer(run, run.completion, now)
        return messages

    def _answer(self, run: Running, completion: Completion, now: float) -> list[m.ServerMessage]:
        """Return the message of a whole answer: an answer, or a watch hit if it differs from the last one."""
        question, covered = run.question, run.body.coverage
        if question.watch:
            if not self._watches.answered(question.watch, run.text):
                return []
            return [m.WatchHit(question.watch.id, run.text, seconds(covered.start), seconds(covered.end))]
        ttft_s = (run.first_token_at or now) - question.asked_at
        self._metrics.first_token.observe(ttft_s)
        self._metrics.answer.observe(now - question.asked_at)
        return [run.answer(completion.tokens, completion.finish, round(ttft_s * 1_000, 1))]

    def _close(self, question: Question, status: Status) -> None:
        question.move(status)
        if self._turn and self._turn.question is question:
            self._turn = None
        else:
            self._queue.remove(question)
