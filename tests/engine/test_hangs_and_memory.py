"""An engine that hangs, or has no memory left, costs one job; keys and values stay within their budget."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from af3stream.config import ModelConfig
from af3stream.engine.captioning import CaptionRequest, Hypothesis, Samples
from af3stream.engine.contract import Completion, Embeddings, Lookup, PromptPart, Text, Turn
from af3stream.engine.jobs import AnswerJob, EncodeJob, ExtendJob, Failed, Restarted
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedContext, ScriptedEngine
from af3stream.engine.worker import Worker
from tests.engine.test_worker import SECOND, Reports, caption, second

QUICK = ModelConfig(step_timeout_s=0.2)
LATE = Failed("it took longer than 0.2 s", timed_out=True)
BODY = (Text("a"), Text("b"))


class Stuck(ScriptedEngine):
    """Hangs whenever it does something with what is bad, until it is let go."""

    def __init__(self, bad: object) -> None:
        super().__init__()
        self.captioner = StuckCaptioner(self)
        self.let_go = threading.Event()
        self._bad = bad

    def hang_if(self, *things: object) -> None:
        if any(thing is self._bad for thing in things):
            assert self.let_go.wait(10)

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        self.hang_if(*windows)
        return super().encode(windows)

    def context(self, embeddings: Lookup) -> ScriptedContext:
        engine = self

        class Context(ScriptedContext):
            def answer(
                self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
            ) -> Iterator[str | Completion]:
                yield "So"
                engine.hang_if(question)
                yield from super().answer(parts, question, max_tokens, earlier)

        return Context(self.counters, embeddings)


class StuckCaptioner(ScriptedCaptioner):
    def __init__(self, engine: Stuck) -> None:
        super().__init__(engine.counters)
        self._engine = engine

    def hear(self, request: CaptionRequest) -> Hypothesis:
        self._engine.hang_if(request.samples)
        return super().hear(request)


# ---- hangs -----------------------------------------------------------------------------------------------------------


def test_a_caption_that_hangs_is_given_up_and_the_next_one_is_heard() -> None:
    bad, good, reports = caption(), caption(), Reports()
    engine = Stuck(bad.samples)
    worker = Worker(engine, QUICK)
    worker.start()
    worker.submit("s", bad, reports)
    worker.submit("t", good, reports)
    reports.wait_for(bad, good)
    assert reports.of(bad) == [(LATE, True)]
    assert reports.of(good) == [(Hypothesis("word1 word2.", (0, 1)), True)]
    engine.let_go.set()  # what it says now is for nobody
    later = caption()
    worker.submit("s", later, reports)
    reports.wait_for(later)
    worker.stop()
    assert len(reports.of(bad)) == 1


def test_an_answer_that_hangs_leaves_its_context_behind() -> None:
    question = "What?"
    extend, bad, good = ExtendJob(BODY, rebuild=False), AnswerJob(BODY, question, 9), AnswerJob(BODY, "Who?", 9)
    engine, reports = Stuck(question), Reports()
    worker = Worker(engine, QUICK)
    worker.start()
    for job in (extend, bad, good):
        worker.submit("s", job, reports)
        reports.wait_for(job)
    worker.stop()
    engine.let_go.set()
    assert reports.of(bad) == [("So", False), (LATE, True)]
    assert (Completion(5, "stop", 3), False) in reports.of(good)  # everything is read again, by a fresh context


def test_of_windows_encoded_together_only_the_one_that_hangs_is_lost() -> None:
    jobs, reports = [EncodeJob(i, second(), SECOND.copy()) for i in range(3)], Reports()
    engine = Stuck(jobs[1].samples)
    worker = Worker(engine, QUICK)
    for job in jobs:
        worker.submit("s", job, reports)
    worker.start()
    reports.wait_for(*jobs)
    worker.stop()
    engine.let_go.set()
    assert [reports.of(job) for job in jobs] == [[(None, True)], [(LATE, True)], [(None, True)]]


# ---- memory ----------------------------------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


class Full(ScriptedEngine):
    """Runs out of memory so many times: at the third word of an answer, and at every caption."""

    def __init__(self, times: int, error: type[Exception] = MemoryError) -> None:
        super().__init__()
        self.left = times
        self.captioner = FullCaptioner(self)
        self._error = error

    def fill(self) -> None:
        self.left -= 1
        if self.left >= 0:
            raise self._error

    def context(self, embeddings: Lookup) -> ScriptedContext:
        engine = self

        class Context(ScriptedContext):
            def answer(
                self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
            ) -> Iterator[str | Completion]:
                for written, piece in enumerate(super().answer(parts, question, max_tokens, earlier)):
                    if written == 2:
                        engine.fill()
                    yield piece

        return Context(self.counters, embeddings)


class FullCaptioner(ScriptedCaptioner):
    def __init__(self, engine: Full) -> None:
        super().__init__(engine.counters)
        self._engine = engine

    def hear(self, request: CaptionRequest) -> Hypothesis:
        self._engine.fill()
        return super().hear(request)


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError])
def test_a_device_without_memory_gives_up_what_is_kept_and_says_everything_once(error: type[Exception]) -> None:
    job, reports, engine = AnswerJob(BODY, "Well?", 9), Reports(), Full(1, error)
    worker = Worker(engine)
    worker.submit("s", ExtendJob(BODY, rebuild=False), reports)
    worker.submit("t", ExtendJob(BODY, rebuild=False), reports)
    worker.run_all()
    worker.submit("s", job, reports)
    worker.run_all()
    results = [result for result, _ in reports.of(job)]
    assert results == ["Well?", " <-", Restarted(), " a", " |", " b", Completion(5, "stop", 3), None]
    assert engine.counters.prefill_tokens == 2 * len(BODY)  # of both sessions; the one that asked is not kept again


def test_a_job_without_memory_is_tried_twice() -> None:
    job, other, reports = caption(), caption(), Reports()
    worker = Worker(Full(2))
    worker.submit("s", job, reports)
    worker.submit("s", other, reports)
    worker.run_all()
    assert reports.of(job) == [(Restarted(), False), (Failed("the engine failed: MemoryError"), True)]
    assert reports.of(other) == [(Hypothesis("word1 word2.", (0, 1)), True)]


class Counting(ScriptedEngine):
    """Knows its contexts."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: list[ScriptedContext] = []

    def context(self, embeddings: Lookup) -> ScriptedContext:
        self.contexts.append(super().context(embeddings))
        return self.contexts[-1]

    @property
    def warm(self) -> list[int]:
        """Parts that each context keeps, in order of their first use."""
        return [context.kept_tokens for context in self.contexts]


def test_the_session_that_was_used_least_recently_gives_way() -> None:
    engine, reports = Counting(), Reports()
    worker = Worker(engine, ModelConfig(kv_budget_mb=5))
    for session, warm in [("a", [2]), ("b", [2, 2]), ("a", [2, 2]), ("c", [2, 0, 2]), ("b", [0, 2, 2])]:
        worker.submit(session, ExtendJob(BODY, rebuild=False), reports)
        worker.run_all()
        assert engine.warm == warm


def test_answers_that_do_not_fit_side_by_side_follow_each_other() -> None:
    worker, reports = Worker(Counting(), ModelConfig(kv_budget_mb=4)), Reports()
    jobs = [AnswerJob(BODY, question, 9) for question in ("One?", "Two?", "Three?")]
    for session, job in zip("abc", jobs, strict=True):
        worker.submit(session, job, reports)
    worker.run_all()
    assert reports.finished == jobs
    order = [job for job, _, _ in reports.all]
    assert all(order[order.index(job) :][: len(reports.of(job))] == [job] * len(reports.of(job)) for job in jobs)


def test_a_job_that_never_fits_is_lost_alone() -> None:
    worker, reports = Worker(Counting(), ModelConfig(kv_budget_mb=2)), Reports()
    large, small = AnswerJob(BODY, "What?", 9), AnswerJob(BODY[:1], "What?", 9)
    worker.submit("a", large, reports)
    worker.submit("a", small, reports)
    worker.run_all()
    assert reports.of(large) == [(Failed("the engine failed: BudgetExceeded"), True)]
    assert reports.of(small)[-1] == (None, True)


def test_a_session_without_work_for_long_is_cooled() -> None:
    engine, reports, job = Counting(), Reports(), ExtendJob(BODY, rebuild=False)
    worker = Worker(engine, ModelConfig(cool_after_s=0.1))
    worker.start()
    worker.submit("a", job, reports)
    reports.wait_for(job)
    cooled = threading.Event()
    while engine.warm == [2]:
        assert not cooled.wait(0.01)
    worker.stop()
