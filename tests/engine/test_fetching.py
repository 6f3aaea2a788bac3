"""A job whose audio is on its way delays no other job, and the thread sleeps meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, Completion, Text
from af3stream.engine.jobs import AnswerJob, ExtendJob, Failed, Job, SoundJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import DataLoss
from tests.engine.test_worker import Reports, second

WINDOWS = tuple(second() for _ in range(9))


class Elsewhere:
    """Audio that comes when it is let.

    Attributes:
        here: what has come.
        asked: what each call asked for.
    """

    rereads = True

    def __init__(self) -> None:
        self.here: set[AudioSegment] = set()
        self.gone: set[AudioSegment] = set()
        self.asked: list[Sequence[AudioSegment]] = []

    def fetch(self, segments: Sequence[AudioSegment]) -> int:
        self.asked.append(segments)
        return next((i for i, segment in enumerate(segments) if segment not in self.here), len(segments))

    def read(self, segment: AudioSegment) -> Samples:
        assert segment in self.here, "it is read when it is here"
        if segment in self.gone:
            raise DataLoss("samples", segment.start, segment.end)
        return np.zeros(segment.end - segment.start, np.float32)


def opened(source: Elsewhere) -> Worker:
    worker = Worker(ScriptedEngine())
    worker.open("s", source, lambda _: None)
    worker.open("t", source, lambda _: None)
    return worker


@pytest.mark.parametrize(
    "job", [AnswerJob(WINDOWS[:2], "What?", 9), ExtendJob(WINDOWS[:2], rebuild=False), SoundJob(0, WINDOWS[0], 0, 640)]
)
def test_a_job_waits_for_its_audio_and_others_go_on(job: Job) -> None:
    source, reports, other = Elsewhere(), Reports(), AnswerJob((Text("Hello."),), "Who?", 9)
    worker = opened(source)
    worker.submit("s", job, reports)
    worker.submit("t", other, reports)
    worker.run_all()
    assert reports.finished == [other]
    source.here |= set(WINDOWS)
    worker.wake()
    worker.run_all()
    assert reports.finished == [other, job]


def test_an_answer_begins_when_the_audio_of_its_next_step_is_here() -> None:
    source, reports, job = Elsewhere(), Reports(), AnswerJob(WINDOWS, "What?", 30)
    worker, together = opened(source), ScriptedEngine.encode_together
    worker.submit("s", job, reports)
    for count in (0, together, 2 * together, len(WINDOWS)):
        assert not reports.of(job)
        source.here |= set(WINDOWS[:count])
        worker.wake()
        worker.run_all()
    assert max(map(len, source.asked)) == 2 * together
    assert any(isinstance(result, Completion) for result, _ in reports.of(job))


def test_audio_that_is_gone_fails_its_job_alone() -> None:
    source, reports = Elsewhere(), Reports()
    job, other = AnswerJob(WINDOWS[:1], "What?", 9), AnswerJob(WINDOWS[1:2], "What?", 9)
    worker = opened(source)
    source.here, source.gone = set(WINDOWS), {WINDOWS[0]}
    worker.submit("s", job, reports)
    worker.submit("t", other, reports)
    worker.run_all()
    assert reports.of(job) == [(Failed("the engine failed: DataLoss"), True)]
    assert reports.finished[-1] is other


def test_a_job_that_waits_for_audio_can_be_cancelled() -> None:
    source, reports, job = Elsewhere(), Reports(), AnswerJob(WINDOWS[:1], "What?", 9)
    worker = opened(source)
    worker.submit("s", job, reports)
    worker.run_all()
    worker.cancel("s", job.id)
    source.here |= set(WINDOWS)
    worker.run_all()
    assert reports.finished == []


def test_the_thread_sleeps_while_all_jobs_wait_for_audio() -> None:
    source, reports, job = Elsewhere(), Reports(), AnswerJob(WINDOWS[:1], "What?", 9)
    worker, done = opened(source), threading.Event()

    def report(job: Job, result: object, last: bool) -> None:
        reports(job, result, last)  # type: ignore[arg-type]
        if last:
            done.set()

    worker.start()
    worker.submit("s", job, report)
    time.sleep(0.2)
    asked = len(source.asked)
    time.sleep(0.2)
    assert len(source.asked) == asked
    source.here |= set(WINDOWS)
    worker.wake()
    assert done.wait(5)
    worker.stop()
