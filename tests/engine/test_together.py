"""Answers of several sessions are written together, and each is what it would have been alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from af3stream.engine.af3.checkpoint import LoadedCheckpoint, load_checkpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import Answering, Completion, Lookup, PromptPart, Text, Turn
from af3stream.engine.jobs import AnswerJob, ExtendJob, Failed, Restarted, Result
from af3stream.engine.request import MAX_DECODE_BATCH
from af3stream.engine.scripted import ScriptedContext, ScriptedEngine
from tests.engine.conftest import answer, model_config, new_context, new_worker, parts_of
from tests.engine.test_worker import SILENCE, Reports, second

TOKENS = 24
QUESTIONS = ("What was said?", "Who spoke last, and where?", "Why?", "¿Qué? 😀")


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedCheckpoint:
    return load_checkpoint(tiny_folder, model_config())


@pytest.mark.device
@pytest.mark.usefixtures("even_steps")
def test_four_sessions_are_answered_as_each_alone(
    tiny: LoadedCheckpoint, signal: Callable[[float, int], Samples]
) -> None:
    engine, reports = Af3Engine(tiny, "tiny"), Reports()
    bodies = [parts_of(engine, [signal(length, i), "Notes.\n"]) for i, length in enumerate((1.0, 29.0, 7.0, 15.0))]
    alone = [answer(new_context(engine), *asked, TOKENS) for asked in zip(bodies, QUESTIONS, strict=True)]
    worker = new_worker(engine)
    for session, body in enumerate(bodies):
        worker.submit(str(session), ExtendJob(tuple(body[:1]), rebuild=False), reports)
        worker.run_all()
    before = engine.counters.forward_passes
    jobs = [AnswerJob(tuple(body), question, TOKENS) for body, question in zip(bodies, QUESTIONS, strict=True)]
    for session, job in enumerate(jobs):
        worker.submit(str(session), job, reports)
    worker.run_all()
    for job, (text, completion) in zip(jobs, alone, strict=True):
        results = [result for result, _ in reports.of(job)]
        assert "".join(result for result in results if isinstance(result, str)) == text
        (ended,) = (result for result in results if isinstance(result, Completion))
        assert (ended.tokens, ended.finish) == (completion.tokens, completion.finish)
    passes = engine.counters.forward_passes - before
    longest, all_tokens = max(c.tokens for _, c in alone), sum(c.tokens for _, c in alone)
    assert passes < longest + 5 * len(jobs) < all_tokens  # to read notes and question, and to fall in step


@pytest.mark.device
def test_questions_are_read_one_chunk_a_step_however_many_sessions_ask(
    tiny_folder: Path, signal: Callable[[float, int], Samples]
) -> None:
    loaded = load_checkpoint(tiny_folder, model_config(prefill_chunk=32))
    engine, reports = Af3Engine(loaded, "tiny"), Reports()
    worker, bodies = new_worker(engine), [parts_of(engine, [signal(9.0, i)]) for i in range(4)]
    for session, body in enumerate(bodies):
        worker.submit(str(session), ExtendJob(tuple(body), rebuild=False), reports)
        worker.run_all()
        job = AnswerJob((*body, Text("Many words are said here, and all of them are read.\n")), QUESTIONS[1], TOKENS)
        worker.submit(str(session), job, reports)
    read = [engine.counters.prefill_tokens]
    while worker.step():
        read.append(engine.counters.prefill_tokens)
    assert 0 < max(after - before for before, after in pairwise(read)) <= 32  # so long does a final caption wait
    assert len(reports.finished) == 2 * len(bodies)


class Joint(ScriptedEngine):
    """Notes how many answers each joint step is for, and fails where it is told to.

    Args:
        fail: the joint step that fails.
        mute: the question whose answer fails after a word.
        full: the question whose answer has no memory for its second word, so many times.
    """

    def __init__(self, fail: int = -1, mute: str = "", full: tuple[str, int] = ("", 0)) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._fail, self._mute = fail, mute
        self.full, self.left = full

    def decode_batch(self, answers: Sequence[Answering]) -> None:
        self.sizes.append(len(answers))
        if len(self.sizes) == self._fail:
            raise RuntimeError("a secret of the device")

    def context(self, embeddings: Lookup) -> ScriptedContext:
        engine = self

        class Context(ScriptedContext):
            def answer(
                self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
            ) -> Iterator[str | Completion]:
                for written, piece in enumerate(super().answer(parts, question, max_tokens, earlier)):
                    if question == engine._mute and written == 1:
                        raise OSError("a secret of the device")
                    if question == engine.full and written == 1 and engine.left:
                        engine.left -= 1
                        raise MemoryError
                    yield piece

        return Context(self.counters, embeddings)


def ask(engine: ScriptedEngine, questions: Sequence[str]) -> list[list[Result]]:
    """Each question asked by a session of its own; what each is told."""
    worker, reports = new_worker(engine), Reports()
    jobs = [AnswerJob((Text("a"),), question, 9) for question in questions]
    for question, job in zip(questions, jobs, strict=True):
        worker.submit(question, job, reports)
    worker.run_all()
    return [[result for result, _ in reports.of(job)] for job in jobs]


def told(question: str) -> list[Result]:
    return [question, " <-", " a", Completion(3, "stop", 2), None]


@pytest.mark.usefixtures("even_steps")
def test_answers_go_step_by_step_together_and_no_more_than_fit() -> None:
    engine, questions = Joint(), [f"{i}?" for i in range(MAX_DECODE_BATCH + 2)]
    assert ask(engine, questions) == [told(question) for question in questions]
    assert max(engine.sizes) == MAX_DECODE_BATCH


@pytest.mark.usefixtures("even_steps")
@pytest.mark.parametrize("fail", [1, 2])
def test_where_a_joint_step_fails_each_goes_on_by_itself(fail: int) -> None:
    engine, questions = Joint(fail=fail), ["a?", "b?", "c?"]
    assert ask(engine, questions) == [told(question) for question in questions]
    assert len(engine.sizes) >= fail
    assert sum(engine.sizes[fail:]) < sum(engine.sizes[:fail])


@pytest.mark.usefixtures("even_steps")
def test_an_answer_that_fails_among_others_is_lost_alone() -> None:
    first, lost, last = ask(Joint(mute="b?"), ["a?", "b?", "c?"])
    assert (first, last) == (told("a?"), told("c?"))
    assert lost == ["b?", Failed("the engine failed: OSError")]


@pytest.mark.usefixtures("even_steps")
@pytest.mark.parametrize("full", ["a?", "b?", "c?"])
@pytest.mark.parametrize("times", [1, 2])
def test_an_answer_without_memory_among_others_costs_them_no_word_and_tells_none_twice(full: str, times: int) -> None:
    questions = ["a?", "b?", "c?"]
    results = dict(zip(questions, ask(Joint(full=(full, times)), questions), strict=True))
    once, twice = [full, Restarted(), *told(full)[1:]], [full, Restarted(), Failed("the engine failed: MemoryError")]
    assert results.pop(full) == (once if times == 1 else twice)
    assert results == {question: told(question) for question in questions if question != full}


def test_the_thread_goes_on_after_an_answer_without_memory_among_others() -> None:
    worker, reports = new_worker(Joint(full=("b?", 2))), Reports()
    jobs = [AnswerJob((Text("a"),), question, 9) for question in ("a?", "b?", "c?")]
    for session, job in zip("abc", jobs, strict=True):
        worker.submit(session, job, reports)
    worker.start()
    reports.wait_for(*jobs)
    later = AnswerJob((Text("a"),), "b?", 9)
    worker.submit("b", later, reports)
    reports.wait_for(later)
    worker.stop()
    assert [result for result, _ in reports.of(later)] == told("b?")
    assert [len([done for _, done in reports.of(job) if done]) for job in jobs] == [1, 1, 1]


def test_two_questions_of_one_session_follow_each_other() -> None:
    engine, reports = Joint(), Reports()
    worker = new_worker(engine, source=SILENCE)
    jobs = [AnswerJob((second(),), question, 9) for question in ("One?", "Two?")]
    for job in jobs:
        worker.submit("s", job, reports)
    worker.run_all()
    assert reports.finished == jobs and engine.sizes == []
