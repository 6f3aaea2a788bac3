"""A caption is made pass by pass: others get their turn in between, and one that is dropped leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from weakref import WeakSet

import pytest

from af3stream.config import ModelConfig
from af3stream.engine.af3.checkpoint import LoadedCheckpoint, load_checkpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.kv import Slot
from af3stream.engine.captioning import Hypothesis, Samples
from af3stream.engine.contract import Text
from af3stream.engine.jobs import AnswerJob, CaptionJob, Failed, ReviseJob
from af3stream.engine.worker import Worker
from tests.captioned import captioned
from tests.engine.conftest import model_config, new_worker
from tests.engine.test_worker import Reports

Signal = Callable[[float, int], Samples]
TOKENS = 64
CHUNK = 32
MIB = 1 << 20


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedCheckpoint:
    return load_checkpoint(tiny_folder, model_config(prefill_chunk=CHUNK))


@pytest.fixture
def engine(tiny: LoadedCheckpoint) -> Af3Engine:
    return Af3Engine(tiny, "tiny")


def caption(samples: Samples, *, final: bool = True, late: bool = False) -> CaptionJob:
    return CaptionJob(0, samples, None, final=final, max_tokens=TOKENS, late=late)


def passes(engine: Af3Engine) -> int:
    return engine.counters.forward_passes + engine.counters.encoder_passes


@pytest.mark.device
def test_each_step_of_a_caption_is_one_pass_over_no_more_than_a_chunk(engine: Af3Engine, signal: Signal) -> None:
    worker, reports, job = new_worker(engine), Reports(), caption(signal(20.0, 1))
    worker.submit("a", job, reports)
    done, read = [passes(engine)], [engine.counters.prefill_tokens]
    while worker.step():
        done.append(passes(engine))
        read.append(engine.counters.prefill_tokens)
    assert max(after - before for before, after in pairwise(done)) == 1
    assert max(after - before for before, after in pairwise(read)) == CHUNK
    assert reports.of(job) == [(captioned(engine.captioner, job.samples, max_tokens=TOKENS), True)]


@pytest.mark.usefixtures("even_steps")
@pytest.mark.parametrize(
    ("how", "most"),
    [
        pytest.param({"late": True}, 1, id="a caption that is late"),
        pytest.param({"final": False}, 1, id="a partial caption"),
        pytest.param({}, 40, id="a final caption, whose session goes first but for a share of the time"),
    ],
)
def test_a_question_of_another_session_has_its_first_words_before_a_long_caption_is_done(
    engine: Af3Engine, signal: Signal, how: dict[str, bool], most: int
) -> None:
    worker, reports = new_worker(engine), Reports()
    worker.submit("a", AnswerJob((Text("Notes."),), "Why?", 4), reports)
    worker.run_all()  # how long such a step takes is known
    long, question = caption(signal(30.0, 2), **how), AnswerJob((Text("Notes."),), "What was said?", 8)
    worker.submit("a", long, reports)
    worker.step()
    worker.step()
    worker.submit("b", question, reports)
    alone = passes(engine)
    while not any(isinstance(result, str) for result, _ in reports.of(question)):
        assert worker.step()
    assert passes(engine) - alone <= most + 4  # those of the question itself
    assert long not in reports.finished
    worker.run_all()
    assert reports.of(long) == [(captioned(engine.captioner, long.samples, max_tokens=TOKENS), True)]


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_a_caption_that_is_cancelled_between_passes_frees_its_keys_and_values(
    engine: Af3Engine, signal: Signal, slots: WeakSet[Slot], steps: int
) -> None:
    worker, reports, job = new_worker(engine, ModelConfig(kv_budget_mb=64)), Reports(), caption(signal(20.0, 3))
    worker.submit("a", job, reports)
    for _ in range(steps + 1):
        worker.step()
    assert worker.kv_bytes == engine.captioner.kv_bytes(job.request) > 0
    worker.cancel("a", job.id)
    worker.run_all()
    assert (worker.kv_bytes, len(slots), reports.all) == (0, 0, [])


def test_a_caption_takes_no_more_keys_and_values_than_it_says(
    engine: Af3Engine, signal: Signal, slots: WeakSet[Slot]
) -> None:
    for job in (caption(signal(7.0, 4)), ReviseJob(0, signal(29.0, 5), TOKENS)):
        written = [0]
        for _ in engine.captioner.caption(job.request):
            written += [slot.nbytes for slot in slots]
        assert max(written) == engine.captioner.kv_bytes(job.request)


def test_captions_that_do_not_fit_side_by_side_follow_each_other(
    engine: Af3Engine, signal: Signal, slots: WeakSet[Slot]
) -> None:
    jobs, reports = [caption(signal(10.0, seed)) for seed in range(3)], Reports()
    budget = 1.5 * engine.captioner.kv_bytes(jobs[0].request)
    worker = Worker(engine, ModelConfig(kv_budget_mb=budget / MIB))
    for session, job in zip("abc", jobs, strict=True):
        worker.submit(session, job, reports)
    while worker.step():
        assert sum(slot.nbytes for slot in slots) <= budget
    assert reports.finished == jobs
    assert all(isinstance(result, Hypothesis) for _, result, _ in reports.all)


def test_a_caption_that_never_fits_fails_and_says_so(engine: Af3Engine, signal: Signal) -> None:
    job, reports = caption(signal(10.0, 1)), Reports()
    worker = Worker(engine, ModelConfig(kv_budget_mb=0.5 * engine.captioner.kv_bytes(job.request) / MIB))
    worker.submit("a", job, reports)
    worker.run_all()
    assert reports.of(job) == [(Failed("the engine failed: BudgetExceeded"), True)]
