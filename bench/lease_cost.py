"""Measure what leases cost: a commit and a takeover of a shared journal, against a journal of one server.

Sessions are committed one record at a time, alternately in both journals. For a takeover, one server has the session
open, with a minute of audio that is not sealed and 200 events, and another takes it and recovers it. A journal of one
server is recovered after a restart instead. ``python -m bench.lease_cost [--quick]``
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from af3stream.audio.pcm import AudioFormat
from af3stream.config import JournalConfig
from af3stream.journal.facts import Commit, SessionFacts
from af3stream.journal.journal import Journal
from af3stream.journal.records import AudioRecord, EventRecord, Record
from bench.common import RATE, p95, quick, report

BLOCK = RATE // 10  # frames of a record
EVENTS = 200
FORMAT = AudioFormat("pcm_s16le", RATE, 1)
FACTS = SessionFacts("talk", "", FORMAT, b"{}", 1.7e9, "bench")


@contextmanager
def running(folder: Path, *, shared: bool) -> Iterator[Journal]:
    """Run a journal that commits at once."""
    journal = Journal(JournalConfig(folder=str(folder), shared=shared, commit_every_ms=0, reserve_mb=0))
    journal.start()
    try:
        yield journal
    finally:
        journal.stop()


def record(number: int) -> AudioRecord:
    """Return the ``number``-th record of a session."""
    return AudioRecord(number * BLOCK, bytes(2 * BLOCK), BLOCK)


def written(journal: Journal, records: Sequence[Record], end: int, event: int = 0) -> float:
    """Append records, and return the seconds until they are acknowledged."""
    acknowledged = threading.Event()

    def told(commit: Commit) -> None:
        if commit.durable >= end and commit.event >= event:
            acknowledged.set()

    began = time.perf_counter()
    journal.append("talk", records, told)
    assert acknowledged.wait(60)
    return time.perf_counter() - began


def commits(folder: Path, count: int) -> dict[str, list[float]]:
    """Return the seconds of commits of each journal, and of the check of a lease."""
    took: dict[str, list[float]] = {"alone": [], "shared": [], "check": []}
    with running(folder / "alone", shared=False) as alone, running(folder / "shared", shared=True) as shared:
        for journal in (alone, shared):
            journal.create(FACTS)
        for number in range(count):
            for name, journal in (("alone", alone), ("shared", shared)):
                took[name].append(written(journal, [record(number)], (number + 1) * BLOCK))
            began = time.perf_counter()
            assert shared.holds("talk")
            took["check"].append(time.perf_counter() - began)
    return took


def fill(journal: Journal, seconds: int) -> None:
    """Create a session with audio and events."""
    journal.create(FACTS)
    records = [record(number) for number in range(seconds * RATE // BLOCK)]
    events = [EventRecord(number, b'{"type":"caption","text":"%0100d"}' % number) for number in range(1, EVENTS + 1)]
    written(journal, [*records, *events], len(records) * BLOCK, EVENTS)


def takeover(folder: Path, seconds: int) -> tuple[float, float]:
    """Return the seconds until another server has the session, and until a server has it after a restart."""
    with running(folder / "shared", shared=True) as first, running(folder / "shared", shared=True) as second:
        fill(first, seconds)
        began = time.perf_counter()
        second.take("talk")
        second.recover("talk")
        taken_s = time.perf_counter() - began
    with running(folder / "alone", shared=False) as journal:
        fill(journal, seconds)
    with running(folder / "alone", shared=False) as journal:
        began = time.perf_counter()
        journal.take("talk")
        journal.recover("talk")
        return taken_s, time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench, and print the figures."""
    small = quick(__doc__, argv)
    count, runs, seconds = (10, 1, 2) if small else (500, 15, 59)
    with tempfile.TemporaryDirectory() as folder:
        took = commits(Path(folder), count)
        moves = [takeover(Path(folder) / str(run), seconds) for run in range(runs)]
    taken, restarted = ([move[which] for move in moves] for which in (0, 1))
    report(
        "lease_cost",
        commits=count,
        takeovers=runs,
        commit_s={name: statistics.median(times) for name, times in took.items()},
        commit_p95_s={name: p95(times) for name, times in took.items()},
        takeover_s={"shared": statistics.median(taken), "alone": statistics.median(restarted)},
    )


if __name__ == "__main__":
    main()
