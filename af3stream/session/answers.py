"""Questions on their way to an answer, and the standing ones that are told when their answer changes."""

from __future__ import annotations

from af3stream.config import QuestionsConfig
from af3stream.engine.contract import Completion
from af3stream.engine.jobs import AnswerJob, Failed, Result
from af3stream.errors import EngineFailed, EngineTimeout
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.horizon import Body
from af3stream.session.ledger import seconds
from af3stream.session.questions import Question, Questions

NOTHING_HEARD = "Nothing was heard in this range."


class Answers:
    """Turns questions into jobs and their results into messages; one question at a time.

    The queue and its rules are in `Questions`.
    """

    def __init__(self, config: QuestionsConfig, metrics: Metrics) -> None:
        self._questions = Questions(config)
        self._metrics = metrics
        self.ask = self._questions.ask
        self.watch = self._questions.watch
        self.unwatch = self._questions.unwatch
        self.next = self._questions.take

    @property
    def running(self) -> bool:
        """Whether a question is being answered."""
        return self._questions.running is not None

    @property
    def waiting_since(self) -> float | None:
        """When the next question to answer came, in clock seconds."""
        return self._questions.waiting_since

    @property
    def idle(self) -> bool:
        """Whether no question waits."""
        return self._questions.idle

    def begin(self, question: Question, body: Body) -> AnswerJob:
        """The job that answers a question over what is heard now."""
        question.body = body
        question.job = AnswerJob(body.parts, question.text, question.max_tokens, body.settled)
        return question.job

    def heard(self, job: AnswerJob, result: Result, done: bool, now: float) -> list[m.ServerMessage]:
        """The engine wrote a piece of an answer, or finished it."""
        question = self._questions.running
        if question is None or question.job is not job:
            return []
        messages: list[m.ServerMessage] = []
        if isinstance(result, str):
            if question.first_token_at is None:
                question.first_token_at = now
            question.pieces.append(result)
            if question.watch is None:
                messages.append(m.AnswerDelta(question.id, result))
        elif isinstance(result, Completion):
            question.completion = result
        elif isinstance(result, Failed):
            messages.append(failure("the question could not be answered", result, ref=question.id))
        if done:
            self._questions.done()
            if question.completion is not None:
                messages += self._finished(question, question.completion, now)
        return messages

    def nothing_heard(self, question: Question, at: float) -> list[m.ServerMessage]:
        """Answer a question about a range without any audio, without the model."""
        self._questions.done()
        if question.watch is not None:
            return []
        answer = m.Answer(question.id, NOTHING_HEARD, at, at, windows=0, tokens=0, finish="stop")
        return [m.AnswerDelta(question.id, NOTHING_HEARD), answer]

    def cancel(self, question_id: str, at: float) -> tuple[AnswerJob | None, m.Answer | None]:
        """Take a question back: the job to drop, where one is running, and the answer as far as it came."""
        question = self._questions.cancel(question_id)
        if question is None:
            return None, None
        body = question.body
        start, end = (seconds(body.start), seconds(body.end)) if body else (at, at)
        return question.job, m.Answer(
            question.id, "".join(question.pieces), start, end, body.windows if body else 0, 0, "cancelled"
        )

    def window_closed(self, now_position: int) -> None:
        """A window closed and is encoded: watches without an interval of their own are due."""
        self._questions.windows_closed = now_position

    def audio_passed(self, position: int, now: float) -> None:
        """Queue the watches that are due at this position."""
        for watch in self._questions.watches.values():
            if watch.every is None:
                if self._questions.windows_closed > watch.asked_up_to:
                    self._questions.due(watch, self._questions.windows_closed, now)
            elif position - watch.asked_up_to >= watch.every:
                self._questions.due(watch, position, now)

    def _finished(self, question: Question, completion: Completion, now: float) -> list[m.ServerMessage]:
        assert question.body is not None
        start, end = seconds(question.body.start), seconds(question.body.end)
        text = "".join(question.pieces)
        watch = question.watch
        if watch is not None:
            changed = _bare(text) != _bare(watch.last_answer or "")
            watch.last_answer = text
            current = self._questions.watches.get(watch.id) is watch
            return [m.WatchHit(watch.id, text, start, end)] if changed and current else []
        ttft_s = (question.first_token_at or now) - question.asked_at
        self._metrics.first_token.observe(ttft_s)
        self._metrics.answer.observe(now - question.asked_at)
        answer = m.Answer(
            question.id,
            text,
            start,
            end,
            windows=question.body.windows,
            tokens=completion.tokens,
            finish=completion.finish,
            ttft_ms=round(ttft_s * 1_000, 1),
        )
        return [answer]


def failure(what: str, failed: Failed, ref: str | None = None) -> m.Error:
    """What a client is told of a job that failed."""
    kind = EngineTimeout if failed.timed_out else EngineFailed
    return m.error(kind(f"{what}: {failed.reason}", ref=ref))


def _bare(text: str) -> str:
    return text.strip(" .!\n").casefold()
