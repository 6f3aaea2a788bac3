"""Steps run on one thread of their own, within a time limit; a request goes through its states in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from af3stream.engine.contract import Completion, Lookup, PromptPart, Text, Turn
from af3stream.engine.embedding_cache import EmbeddingCache
from af3stream.engine.executor import StepTimeout, ThreadExecutor
from af3stream.engine.jobs import AnswerJob, ExtendJob, Job
from af3stream.engine.model_runner import ModelRunner, Output
from af3stream.engine.request import Request, Status
from af3stream.engine.scripted import ScriptedContext, ScriptedEngine

PARTS = (Text("a"), Text("b"))


class Tracked(ScriptedEngine):
    """Knows on which threads its contexts work, and hangs in a question until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []
        self.let_go = threading.Event()

    def context(self, embeddings: Lookup) -> ScriptedContext:
        engine = self

        class Context(ScriptedContext):
            def answer(
                self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
            ) -> Iterator[str | Completion]:
                try:
                    for piece in super().answer(parts, question, max_tokens, earlier):
                        engine.threads.append(threading.current_thread().name)
                        if question == "Hang":
                            assert engine.let_go.wait(10)
                        yield piece
                finally:
                    engine.threads.append(threading.current_thread().name)

        return Context(self.counters, embeddings)


def request(job: ExtendJob | AnswerJob) -> Request:
    """A request that is admitted."""
    return Request("s", job, lambda *_: None, Status.RUNNING, parts=job.parts)


def executor_of(engine: ScriptedEngine, timeout_s: float = 10.0) -> ThreadExecutor:
    return ThreadExecutor(ModelRunner(engine, EmbeddingCache(engine.frame_bytes, 0, 60.0)), timeout_s)


def test_a_step_is_one_pass_and_its_output_says_whether_the_request_is_done() -> None:
    executor, extend = executor_of(ScriptedEngine()), request(ExtendJob(PARTS, rebuild=False))
    outputs = [executor.run([extend]) for _ in range(4)]
    assert outputs == [[Output()], [Output()], [Output()], [Output(done=True)]]  # to begin, two parts, the end
    executor.stop()


def test_steps_and_cancels_run_on_the_same_thread() -> None:
    engine, asked = Tracked(), request(AnswerJob(PARTS, "one two three", 9))
    executor = executor_of(engine)
    for _ in range(3):
        executor.run([asked])
    executor.cancel(asked)
    executor.stop()
    assert engine.threads == ["engine"] * 3  # two pieces, and the end of the answer


def test_a_step_that_hangs_is_given_up_with_the_prefix_it_used() -> None:
    engine, hanging, next_one = Tracked(), request(AnswerJob(PARTS, "Hang", 9)), request(AnswerJob(PARTS, "Who?", 9))
    executor = executor_of(engine, timeout_s=0.2)
    used = executor.prefix("s")
    executor.run([hanging])
    with pytest.raises(StepTimeout):
        executor.run([hanging])
    assert executor.prefix("s") is not used
    executor.run([next_one])
    assert executor.run([next_one]) == [Output("Who?", decoding=True)]
    engine.let_go.set()
    executor.stop()


def test_an_error_of_a_step_is_raised_or_returned_for_the_request_it_costs() -> None:
    class Broken(ScriptedEngine):
        def context(self, embeddings: Lookup) -> ScriptedContext:
            raise OSError

    executor = executor_of(Broken())
    (output,) = executor.run([request(AnswerJob(PARTS, "What?", 9))])
    assert isinstance(output, OSError)
    executor.stop()


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ([Status.WAITING, Status.RUNNING, Status.DONE], Status.QUEUED),
        ([Status.RUNNING, Status.QUEUED, Status.RUNNING, Status.FAILED], Status.RUNNING),
        ([Status.CANCELLED], Status.RUNNING),
        ([], Status.DONE),
    ],
)
def test_a_request_goes_through_its_states_in_order(path: list[Status], refused: Status) -> None:
    job: Job = ExtendJob(PARTS, rebuild=False)
    subject = Request("s", job, lambda *_: None)
    for status in path:
        subject.move(status)
    with pytest.raises(ValueError, match="cannot be"):
        subject.move(refused)
