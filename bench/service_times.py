"""Measure the times that `bench.capacity` is driven by.

The engine does each kind of job alone, without a server: final and partial captions of speech of several lengths, the
second pass over a window, reading captions and frames into a KV prefix, and answers, alone and in batches. A journal
commits the audio of several sessions.
``python -m bench.service_times [--quick]``
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

import numpy as np

from af3stream.audio.pcm import AudioFormat
from af3stream.config import JournalConfig
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.captioning import CaptionOptions
from af3stream.engine.contract import AudioSegment, Completion, PromptPart, Text
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Job, Result, ReviseJob
from af3stream.engine.worker import Worker
from af3stream.journal.facts import Commit, SessionFacts
from af3stream.journal.journal import Journal
from af3stream.journal.records import AudioRecord
from bench.common import RATE, mini, quick, report, speech
from bench.sessions import QUESTION

ENGLISH: Final = CaptionOptions(language="en")
WINDOW_S: Final = 25.0


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench.

    Attributes:
        captions_s: lengths of utterances.
        batches: numbers of answers that are decoded together.
        dirty: numbers of sessions that a commit of the journal covers.
    """

    captions_s: tuple[float, ...] = (3.0, 5.5, 8.0)
    runs: int = 2
    batches: tuple[int, ...] = (1, 2, 4, 8)
    tokens: int = 16
    dirty: tuple[int, ...] = (1, 8, 32)
    commits: int = 30


QUICK: Final = Size((1.0, 2.0), 1, (1, 2), 4, (1, 2), 2)


class Jobs:
    """Runs jobs in the caller's thread."""

    def __init__(self, engine: Af3Engine) -> None:
        self.engine = engine
        self._worker = Worker(engine)
        self._results: list[Result] = []

    def run(self, *jobs: tuple[str, Job]) -> tuple[float, list[tuple[float, Result]]]:
        """Run the jobs of sessions together; returns the seconds, and every result with its time since the start."""
        results: list[tuple[float, Result]] = []
        began = time.perf_counter()

        def note(_job: Job, result: Result, _done: bool) -> None:
            results.append((time.perf_counter() - began, result))

        for session, job in jobs:
            self._worker.submit(session, job, note)
        self._worker.run_all()
        return time.perf_counter() - began, results

    def median(self, job: Job, runs: int) -> float:
        """Return the median seconds of a job, after one that warms up."""
        self.run(("s", job))
        return statistics.median(self.run(("s", job))[0] for _ in range(runs))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the figures."""
    size = QUICK if quick(__doc__, argv) else Size()
    jobs = Jobs(mini())
    figures = {**captions(jobs, size), **reading(jobs, size), **answers(jobs, size), **journal(size)}
    report("service_times", load_average=os.getloadavg()[0], **figures)


def captions(jobs: Jobs, size: Size) -> dict[str, Any]:
    """Return seconds of computing by seconds of speech, for final captions, partial ones, and a second pass."""

    def caption(seconds: float, final: bool) -> CaptionJob:
        return CaptionJob(0, speech(seconds), None, final, 224, options=ENGLISH)

    return {
        "final_s": {str(s): jobs.median(caption(s, True), size.runs) for s in size.captions_s},
        "interim_s": {str(s): jobs.median(caption(s, False), size.runs) for s in size.captions_s},
        "revise_s": {
            str(s): jobs.median(ReviseJob(0, speech(s), 224, options=ENGLISH), size.runs)
            for s in (WINDOW_S / 2, WINDOW_S)
        },
    }


def reading(jobs: Jobs, size: Size) -> dict[str, Any]:
    """Return the seconds of encoding a window, and of reading its frames or its captions into a KV prefix."""
    engine = jobs.engine
    window = AudioSegment(0, 30 * RATE, engine.tokens.frames(30 * RATE))
    encode_s, _ = jobs.run(("encoded", EncodeJob(0, window, speech(30.0))))
    frames_s, _ = jobs.run(("encoded", ExtendJob((window,), rebuild=False)))
    words = "He was not an ill-disposed young man, unless to be rather cold hearted is to be ill-disposed. "
    parts: list[PromptPart] = []
    took = []
    for index in range(size.runs + 1):
        parts.append(Text(f"[{index}:02] {words * 4}\n"))
        took.append(jobs.run(("read", ExtendJob(tuple(parts), rebuild=False, captions_only=True)))[0])
    assert isinstance(parts[-1], Text)
    return {
        "encode_window_s": encode_s,
        "read_window_frames_s": frames_s,
        "window_frames": window.tokens,
        "read_captions_s": statistics.median(took[1:]),
        "caption_positions": engine.tokens.count(parts[-1].text),
    }


def answers(jobs: Jobs, size: Size) -> dict[str, Any]:
    """Return the seconds to the first token over a short prefix, and of a token by the answers of a batch."""
    parts: tuple[PromptPart, ...] = (Text("[0:02] " + "He was not an ill-disposed young man. " * 20 + "\n"),)
    for index in range(max(size.batches)):
        jobs.run((str(index), ExtendJob(parts, rebuild=False, captions_only=True)))
    token_s, first_s = {}, []
    for batch in size.batches:
        asked = [(str(index), AnswerJob(parts, QUESTION, size.tokens, prefix=1)) for index in range(batch)]
        took, results = jobs.run(*asked)
        firsts = [at for at, result in results if isinstance(result, str) and result]
        tokens = max(result.tokens for _, result in results if isinstance(result, Completion))
        after_first = took - firsts[0] if batch == 1 else took - batch * first_s[0]
        token_s[str(batch)] = after_first / max(1, tokens - 1)
        if batch == 1:
            first_s.append(statistics.median(_first_s(jobs, asked) for _ in range(size.runs)))
    return {"first_token_s": first_s[0], "token_s": token_s, "question_positions": jobs.engine.tokens.count(QUESTION)}


def _first_s(jobs: Jobs, asked: Sequence[tuple[str, Job]]) -> float:
    _, results = jobs.run(*asked)
    return next(at for at, result in results if isinstance(result, str) and result)


def journal(size: Size) -> dict[str, Any]:
    """Return the seconds of a commit by the sessions that it covers, 100 ms of audio each."""
    pcm = (np.asarray(speech(0.1)) * 32_767).astype("<i2").tobytes()
    commit_s: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        kept = Journal(JournalConfig(folder=folder, commit_every_ms=0))
        kept.start()
        try:
            for dirty in size.dirty:
                commit_s[str(dirty)] = _commit_s(kept, dirty, size.commits, pcm)
        finally:
            kept.stop()
    return {"commit_s": commit_s}


def _commit_s(kept: Journal, dirty: int, commits: int, pcm: bytes) -> float:
    """Return the median seconds until the next block of so many sessions is durable."""
    sessions = [_session(kept, f"{dirty}-{index}") for index in range(dirty)]
    frames, took = len(pcm) // 2, []
    for index in range(commits):
        done: SimpleQueue[Commit] = SimpleQueue()
        began = time.perf_counter()
        for session in sessions:
            kept.append(session, [AudioRecord(index * frames, pcm, frames)], done.put)
        for _ in sessions:
            done.get()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _session(kept: Journal, name: str) -> str:
    kept.create(SessionFacts(name, "", AudioFormat(), b"{}", time.time(), "bench"))
    return name


if __name__ == "__main__":
    main()
