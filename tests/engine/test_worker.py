"""The one thread that touches the device, over the scripted engine; and the same work in the caller's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import numpy as np
import pytest

from af3stream.config import ModelConfig
from af3stream.engine.captioning import CaptionRequest, Hypothesis, Samples
from af3stream.engine.contract import AudioSegment, Completion, Embeddings, Engine, Lookup, PromptPart, Text, Turn
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Failed, Job, PrefixLost, Result
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedContext, ScriptedEngine
from af3stream.engine.worker import Worker
from tests.engine.conftest import new_worker

SECOND = np.zeros(16_000, np.float32)
STARTS = count(0, 16_000)


class Silence:
    """Every segment is silent."""

    rereads = True

    def fetch(self, segments: Sequence[AudioSegment]) -> int:
        return len(segments)

    def read(self, segment: AudioSegment) -> Samples:
        return np.zeros(segment.end - segment.start, np.float32)


SILENCE = Silence()


def second() -> AudioSegment:
    """A second of silence that no other segment holds."""
    start = next(STARTS)
    return AudioSegment(start, start + 16_000, 25)


def encode_job(window: int = 0) -> EncodeJob:
    return EncodeJob(window, second(), SECOND)


def silent_worker(engine: Engine, model: ModelConfig | None = None) -> Worker:
    return new_worker(engine, model, SILENCE)


def caption(final: bool = True) -> CaptionJob:
    return CaptionJob(0, np.zeros(16_000, np.float32), None, final=final, max_tokens=9)


class Reports:
    """What a worker reported, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[Job, Result, bool]] = []
        self._done = threading.Condition()

    def __call__(self, job: Job, result: Result, done: bool) -> None:
        with self._done:
            self.all.append((job, result, done))
            self._done.notify_all()

    def of(self, job: Job) -> list[tuple[Result, bool]]:
        return [(result, done) for reported, result, done in self.all if reported is job]

    @property
    def finished(self) -> list[Job]:
        return [job for job, _, done in self.all if done]

    def wait_for(self, *jobs: Job) -> None:
        with self._done:
            assert self._done.wait_for(lambda: set(jobs) <= set(self.finished), timeout=10)


Run = Callable[..., None]


@pytest.fixture(params=["inline", "threaded"])
def run(request: pytest.FixtureRequest) -> Run:
    """`run(worker, reports, *jobs)`: submits the jobs as session "s", and has them done."""

    def inline(worker: Worker, reports: Reports, *jobs: Job) -> None:
        for job in jobs:
            worker.submit("s", job, reports)
        worker.run_all()

    def threaded(worker: Worker, reports: Reports, *jobs: Job) -> None:
        for job in jobs:
            worker.submit("s", job, reports)
        worker.start()
        reports.wait_for(*jobs)
        worker.stop()

    return inline if request.param == "inline" else threaded


def test_every_kind_of_job(run: Run) -> None:
    sound = second()
    jobs = caption(), EncodeJob(0, sound, SECOND), ExtendJob((sound,), rebuild=False), AnswerJob((sound,), "What?", 9)
    reports = Reports()
    run(silent_worker(ScriptedEngine()), reports, *jobs)
    hear, encode, extend, answer = jobs
    assert reports.of(hear) == [(Hypothesis("word1 word2.", (0, 1)), True)]
    assert reports.of(encode) == [(None, True)]
    assert reports.of(extend) == [(None, True)]
    assert reports.of(answer)[:-2] == [("What?", False), (" <-", False), (" 1s", False)]
    assert reports.of(answer)[-2:] == [(Completion(3, "stop", 2), False), (None, True)]
    assert reports.finished == [hear, answer, encode, extend]


def test_jobs_of_several_sessions_are_done_by_urgency() -> None:
    reports, worker = Reports(), silent_worker(ScriptedEngine())
    extend, answer, hear = ExtendJob((second(),), rebuild=False), AnswerJob((second(),), "What?", 9), caption()
    for session, job in zip("abc", (extend, answer, hear), strict=True):
        worker.submit(session, job, reports)
    worker.run_all()
    assert reports.finished == [hear, answer, extend]


def test_jobs_of_a_detached_session_are_done_after_all_others_and_in_their_turn_once_it_is_attached() -> None:
    reports, worker = Reports(), silent_worker(ScriptedEngine())
    gone, there = [caption() for _ in range(3)], [encode_job(), caption(final=False)]
    for job in gone:
        worker.submit("gone", job, reports)
    worker.detach("gone")
    for job in there:
        worker.submit("there", job, reports)
    worker.run_all()
    assert reports.finished == [*there, *gone]
    worker.attach("gone")
    final, encode = caption(), encode_job()
    worker.submit("there", encode, reports)
    worker.submit("gone", final, reports)
    worker.run_all()
    assert reports.finished[-2:] == [final, encode]


@pytest.mark.usefixtures("even_steps")
def test_a_question_goes_before_what_its_session_has_still_to_read() -> None:
    reports, worker, sounds = Reports(), silent_worker(ScriptedEngine()), [second(), second()]
    encode, extend = EncodeJob(0, sounds[0], SECOND), ExtendJob((sounds[0],), rebuild=False)
    answer = AnswerJob((Text("captions"),), "What?", 9)
    for job in (encode, extend, answer):
        worker.submit("s", job, reports)
    worker.run_all()
    assert reports.finished == [answer, encode, extend]


@pytest.mark.usefixtures("even_steps")
@pytest.mark.parametrize("rebuild", [False, True])
def test_a_prefix_is_not_appended_to_under_an_answer_and_is_rebuilt_beside_it(rebuild: bool) -> None:
    reports, worker = Reports(), silent_worker(ScriptedEngine())
    worker.submit("other", ExtendJob((Text("z"),), rebuild=False), reports)
    worker.run_all()  # how long such a step takes is known
    answer = AnswerJob((Text("captions"),), "many words " * 30, 60)
    extend = ExtendJob((Text("a"),), rebuild=rebuild)
    for job in (answer, extend):
        worker.submit("s", job, reports)
    worker.run_all()
    assert reports.finished[1:] == ([extend, answer] if rebuild else [answer, extend])


def test_an_answer_over_a_prefix_that_is_gone_reads_something_else_instead(run: Run) -> None:
    parts, engine, reports = (second(), second()), ScriptedEngine(), Reports()
    job = AnswerJob(parts, "What?", 9, prefix=2, instead=(Text("captions"),))
    worker = silent_worker(engine)
    run(worker, reports, job)
    assert reports.of(job)[0] == (PrefixLost(), False)
    assert "".join(result for result, _ in reports.of(job) if isinstance(result, str)) == "What? <- captions"
    assert engine.counters.sounds_encoded == 0


def test_an_answer_over_a_prefix_that_is_there_reads_it() -> None:
    parts, reports, worker = (second(), second()), Reports(), silent_worker(ScriptedEngine())
    job = AnswerJob(parts, "What?", 9, prefix=2, instead=(Text("captions"),))
    for each in (ExtendJob(parts, rebuild=False), job):
        worker.submit("s", each, reports)
        worker.run_all()
    assert "".join(result for result, _ in reports.of(job) if isinstance(result, str)) == "What? <- 1s | 1s"


def test_an_answer_encodes_what_it_needs(run: Run) -> None:
    job = AnswerJob((second(), second()), "What?", 9)
    engine, reports = ScriptedEngine(), Reports()
    run(silent_worker(engine), reports, job)
    assert engine.counters.sounds_encoded == 2
    assert (None, True) in reports.of(job)


def test_waiting_windows_are_encoded_together(run: Run) -> None:
    jobs = [encode_job(i) for i in range(ScriptedEngine.encode_together + 1)]
    engine, reports = ScriptedEngine(), Reports()
    run(silent_worker(engine), reports, *jobs)
    assert reports.finished == jobs
    assert engine.counters.encoder_passes == 2


class Choosy(ScriptedEngine):
    """Cannot encode one window, and cannot hear or answer anything."""

    def __init__(self, bad: Samples | None = None) -> None:
        super().__init__()
        self._bad = bad
        self.captioner = Deaf(self.counters)

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        if any(samples is self._bad for samples in windows):
            raise RuntimeError("a secret of the device")
        return super().encode(windows)

    def context(self, embeddings: Lookup) -> ScriptedContext:
        return Mute(self.counters, embeddings)


class Deaf(ScriptedCaptioner):
    def hear(self, request: CaptionRequest) -> Hypothesis:
        raise ValueError("a secret of the device")


class Mute(ScriptedContext):
    def answer(
        self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
    ) -> Iterator[str | Completion]:
        yield "So"
        raise OSError("a secret of the device")


def test_a_failure_costs_one_job(run: Run) -> None:
    hear, answer, extend = caption(), AnswerJob((), "What?", 9), ExtendJob((second(),), rebuild=False)
    reports = Reports()
    run(silent_worker(Choosy()), reports, hear, answer, extend)
    assert reports.of(hear) == [(Failed("the engine failed: ValueError"), True)]
    assert reports.of(answer) == [("So", False), (Failed("the engine failed: OSError"), True)]
    assert reports.of(extend) == [(None, True)]


def test_a_failure_among_windows_encoded_together_costs_the_one_to_blame(run: Run) -> None:
    jobs = [EncodeJob(i, second(), SECOND.copy()) for i in range(ScriptedEngine.encode_together)]
    reports, resident = Reports(), list[frozenset[AudioSegment]]()
    worker = Worker(Choosy(bad=jobs[1].samples))
    worker.open("s", SILENCE, resident.append)
    run(worker, reports, *jobs)
    failed = [job for job, result, _ in reports.all if isinstance(result, Failed)]
    assert failed == [jobs[1]]
    assert resident[-1] == {job.segment for job in jobs if job is not jobs[1]}
    assert len(reports.all) == len(jobs)


class Watched(ScriptedEngine):
    """Knows how many answers are under way, and calls back after each piece."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0
        self.after_piece: Callable[[], None] = lambda: None

    def context(self, embeddings: Lookup) -> ScriptedContext:
        engine = self

        class Context(ScriptedContext):
            def answer(
                self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
            ) -> Iterator[str | Completion]:
                engine.open += 1
                try:
                    for piece in super().answer(parts, question, max_tokens, earlier):
                        yield piece
                        engine.after_piece()
                finally:
                    engine.open -= 1

        return Context(self.counters, embeddings)


def test_a_cancelled_job_is_closed_and_reported_no_more() -> None:
    engine, reports = Watched(), Reports()
    worker = silent_worker(engine)
    job, other = AnswerJob((second(),), "one two three four", 9), AnswerJob((second(),), "Next?", 9)
    engine.after_piece = lambda: worker.cancel("s", job.id)
    worker.submit("s", job, reports)
    worker.submit("s", other, reports)
    worker.run_all()
    assert reports.of(job) == [("one", False), (" two", False)]  # the step under way is finished
    assert reports.finished == [other]
    assert engine.open == 0


def test_a_job_cancelled_before_its_turn_is_never_begun() -> None:
    engine, reports = ScriptedEngine(), Reports()
    worker = silent_worker(engine)
    job = caption()
    worker.submit("s", job, reports)
    worker.cancel("s", job.id)
    worker.cancel("s", caption().id)  # nor does one that was never there matter
    worker.run_all()
    assert reports.all == [] and engine.counters.caption_encodes == 0


def test_closing_a_session_drops_its_jobs_and_its_context() -> None:
    engine, reports = Watched(), Reports()
    worker = silent_worker(engine)
    parts = (second(), second())
    worker.submit("a", ExtendJob(parts, rebuild=False), reports)
    worker.run_all()
    job, others = AnswerJob(parts, "one two three", 9), AnswerJob(parts, "Yes?", 9)
    engine.after_piece = lambda: worker.close("a")
    worker.submit("a", job, reports)
    worker.submit("a", caption(final=False), reports)
    worker.submit("b", others, reports)
    worker.run_all()
    assert others in reports.finished and job not in reports.finished and len(reports.finished) == 2
    assert engine.open == 0
    engine.after_piece = lambda: None
    worker.open("a", SILENCE, lambda _: None)
    again = AnswerJob(parts, "Again?", 9)
    worker.submit("a", again, reports)
    worker.run_all()
    completion = next(result for result, _ in reports.of(again) if isinstance(result, Completion))
    assert completion.prefilled == len(parts) + 1  # nothing of the prefix was left


def test_a_final_caption_goes_between_the_steps_of_an_answer() -> None:
    engine, reports = Watched(), Reports()
    worker = silent_worker(engine)
    answer, hear = AnswerJob((second(),), "one two three", 9), caption()
    begun: list[bool] = []
    engine.after_piece = lambda: None if begun else (begun.append(True), worker.submit("b", hear, reports))[0]
    worker.submit("a", answer, reports)
    worker.run_all()
    assert reports.finished == [hear, answer]


def test_stopping_drops_what_is_left() -> None:
    engine, reports = ScriptedEngine(), Reports()
    worker = silent_worker(engine)
    first, last = caption(), caption()

    def stop_soon(job: Job, result: Result, done: bool) -> None:
        reports(job, result, done)
        stopping = threading.Thread(target=worker.stop)
        stopping.start()
        stopping.join(0.1)  # it waits for this step to end

    worker.submit("s", first, stop_soon)
    worker.submit("s", last, reports)
    worker.start()
    reports.wait_for(first)
    worker.stop()
    assert reports.finished == [first] and engine.counters.caption_encodes == 1


def test_time_on_the_device_is_counted() -> None:
    worker = silent_worker(ScriptedEngine())
    worker.submit("s", caption(), Reports())
    worker.run_all()
    assert worker.busy_s > 0
