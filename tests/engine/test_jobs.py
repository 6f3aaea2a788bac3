"""What a session gives the engine, and gets back, is immutable and may cross to another process."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest

from af3stream.engine.captioning import Hypothesis
from af3stream.engine.contract import AudioSegment, Completion, Text, Turn
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    Failed,
    Job,
    PrefixLost,
    Restarted,
    Result,
    ReviseJob,
)

SAMPLES = np.linspace(-1, 1, 640, dtype=np.float32)
SEGMENT = AudioSegment(0, 640, 1)
PARTS = (SEGMENT, Text("[0:00] Hello.\n"))
JOBS: list[Job] = [
    CaptionJob(0, SAMPLES, Hypothesis("Hello", (1, 2)), final=True, max_tokens=9),
    ReviseJob(0, SAMPLES, 9),
    EncodeJob(0, SEGMENT, SAMPLES),
    ExtendJob(PARTS, rebuild=False),
    AnswerJob(PARTS, "What?", 9, (Turn("Who?", "Anna."),), 2, PARTS[1:], {SEGMENT: SAMPLES}),
]
RESULTS: list[Result] = [
    Hypothesis("Hello", (1, 2)),
    Completion(1, "stop", 2),
    Failed("it failed"),
    Restarted(),
    PrefixLost(),
]


def plain(value: Any) -> Any:
    """A job's fields, comparable."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("job", JOBS, ids=lambda job: type(job).__name__)
def test_a_job_is_frozen_and_serialisable(job: Job) -> None:
    copied = pickle.loads(pickle.dumps(job))
    assert type(copied) is type(job)
    for field in fields(job):
        assert plain(getattr(copied, field.name)) == plain(getattr(job, field.name))
        with pytest.raises(FrozenInstanceError):
            setattr(job, field.name, None)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_result_is_serialisable(result: Result) -> None:
    assert pickle.loads(pickle.dumps(result)) == result
