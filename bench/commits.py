"""Measure what a commit of the journal takes, by the sessions that it covers, 100 ms of audio each.

``python -m bench.commits [--quick]``
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Final

from af3stream.audio.pcm import AudioFormat
from af3stream.config import JournalConfig
from af3stream.journal.facts import Commit, SessionFacts
from af3stream.journal.journal import Journal
from af3stream.journal.records import AudioRecord
from bench.common import quick, report, speech

SESSIONS: Final = (1, 8, 32)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the figures."""
    commits = 2 if quick(__doc__, argv) else 40
    pcm = (speech(0.1) * 32_767).astype("<i2").tobytes()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(JournalConfig(folder=folder, commit_every_ms=0))
        journal.start()
        try:
            for sessions in SESSIONS:
                seconds[str(sessions)] = commit_s(journal, sessions, commits, pcm)
        finally:
            journal.stop()
    report("commits", load_average=os.getloadavg()[0], commit_s=seconds)


def commit_s(journal: Journal, sessions: int, commits: int, pcm: bytes) -> float:
    """Return the median seconds until the next block of so many sessions is durable."""
    names = [_session(journal, f"{sessions}-{index}") for index in range(sessions)]
    frames, took = len(pcm) // 2, []
    for index in range(commits):
        done: SimpleQueue[Commit] = SimpleQueue()
        began = time.perf_counter()
        for name in names:
            journal.append(name, [AudioRecord(index * frames, pcm, frames)], done.put)
        for _ in names:
            done.get()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _session(journal: Journal, name: str) -> str:
    journal.create(SessionFacts(name, "", AudioFormat(), b"{}", time.time(), "bench"))
    return name


if __name__ == "__main__":
    main()
