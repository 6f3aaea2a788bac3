"""Measure batched answers of several sessions with the engine's worker, without a server."""

from __future__ import annotations

import time
from collections.abc import Sequence

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, Completion
from af3stream.engine.jobs import AnswerJob, EncodeJob, ExtendJob, Job, Result
from af3stream.engine.request import Report
from af3stream.engine.worker import Worker
from bench.common import endless


def tokens_a_second(engine: Af3Engine, windows: Sequence[Samples], question: str, tokens: int) -> float:
    """Return the tokens a second of one long answer in each session, each over a window of its own.

    Args:
        engine: its answers run to the token limit from now on.
        windows: one for each session.
        tokens: tokens of each answer.
    """
    endless(engine)
    worker, first, done = Worker(engine), dict[str, float](), list[float]()
    count = 0

    def note(name: str) -> Report:
        def noted(_job: Job, result: Result, _ended: bool) -> None:
            nonlocal count
            if isinstance(result, str) and result:
                first.setdefault(name, time.perf_counter())
            if isinstance(result, Completion):
                count += result.tokens
                done.append(time.perf_counter())

        return noted

    sounds = [AudioSegment(0, len(samples), engine.tokens.frames(len(samples))) for samples in windows]
    for index, (sound, samples) in enumerate(zip(sounds, windows, strict=True)):
        worker.submit(str(index), EncodeJob(0, sound, samples), note(str(index)))
        worker.submit(str(index), ExtendJob((sound,), rebuild=False), note(str(index)))
    worker.run_all()
    for index, sound in enumerate(sounds):
        worker.submit(str(index), AnswerJob((sound,), question, tokens), note(str(index)))
    worker.run_all()
    return (count - len(windows)) / (max(done) - min(first.values()))
