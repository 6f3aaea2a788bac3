"""SIGKILL at every labelled point of the write path: what was told is there, bit for bit, and the session goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from af3stream.errors import NoSession
from af3stream.journal.faults import POINTS, hooked, killer
from af3stream.journal.journal import Journal
from af3stream.journal.records import EventRecord
from af3stream.journal.segments import Mark
from tests.journal.child import BATCHES, END, main
from tests.journal.scenes import BLOCK, Told, audio, event, facts, joined, pcm, running

ROOT = Path(__file__).parents[2]
ALL = [record for batch in BATCHES for record in batch]
WHOLE = joined(record for record in ALL if not isinstance(record, EventRecord))
OLD_END = 6 * BLOCK
OF_LEASES = {"lease-claimed", "takeover-written", "takeover-done", "lease-checked"}
OF_TAILS = {"tail-staged", "tail-revealed"}  # a new owner writes the tail with the rest of its file


def prepare(folder: Path) -> None:
    """A session whose last records were never acknowledged."""
    with running(folder / "alive") as journal:
        journal.create(facts("old"))
        journal.append("old", audio(0, OLD_END), told := Told())
        told.durable(OLD_END)
        shutil.copytree(folder / "alive", folder / "journal")
    mark = Mark(folder / "journal/sessions/old")
    mark.write(0)
    mark.close()


def killed_at(order: str, folder: Path, shared: bool) -> dict[str, tuple[int, int]]:
    """Run the child until it dies at a point; returns what it was last told of each session."""
    environment = os.environ | {"AF3STREAM_KILL_AT": order}
    command = [sys.executable, "-m", "tests.journal.child", str(folder), *["shared"] * shared]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    lines = [line.split() for line in ended.stdout.splitlines()]
    return {name: (int(durable), int(number)) for name, durable, number in lines}


def check_old(journal: Journal, told: dict[str, tuple[int, int]]) -> None:
    """Whole until it is deleted, and then gone."""
    if "deleting" in told:
        if journal.facts("old") is None:
            assert not (journal._folder / "sessions/old").exists()
            return
        assert "deleted" not in told
    recovered = journal.recover("old")
    assert (recovered.durable, joined(recovered.audio)) == (OLD_END, pcm(0, OLD_END))


def check_talk(journal: Journal, durable: int, number: int) -> None:
    """What was told is there; appended to its end, it is what it would have been."""
    recovered = journal.recover("talk")
    heard = joined(recovered.audio)
    assert recovered.durable >= durable and len(recovered.events) >= number
    assert heard == WHOLE[: len(heard)] and len(heard) == recovered.durable * 2
    assert recovered.events == [event(n + 1) for n in range(len(recovered.events))]
    if next(row.finished_at for row in journal.sessions() if row.facts.session == "talk") is None:
        journal.append("talk", ALL, told := Told())
        told.durable(END, len(BATCHES))
    again = journal.recover("talk")
    assert (joined(again.audio), len(again.events)) == (WHOLE, len(BATCHES))


@pytest.mark.parametrize(("shared", "others"), [(False, OF_LEASES), (True, OF_TAILS)])
def test_the_child_passes_every_point(tmp_path: Path, shared: bool, others: set[str]) -> None:
    prepare(tmp_path)
    passed = Counter[str]()
    with hooked(lambda label: passed.update([label])):
        main(tmp_path / "journal", shared)
    assert set(passed) == set(POINTS) - others


@pytest.mark.parametrize(
    "order",
    [
        *(label for label in POINTS if label not in OF_LEASES),
        *("audio-written:5", "log-commit:6", "log-commit:2", "events-committed:3", "mark-written:7", "tell:4"),
    ],
)
def test_killed_at(order: str, tmp_path: Path) -> None:
    check_after_kill(order, tmp_path, shared=False)


@pytest.mark.parametrize(
    "order", [*sorted(OF_LEASES), "lease-checked:9", "events-committed", "seal-recorded", "session-forgotten"]
)
def test_killed_with_leases_at(order: str, tmp_path: Path) -> None:
    check_after_kill(order, tmp_path, shared=True)


def check_after_kill(order: str, tmp_path: Path, *, shared: bool) -> None:
    prepare(tmp_path)
    told = killed_at(order, tmp_path / "journal", shared)
    with running(tmp_path / "journal", shared=shared) as journal:
        check_old(journal, told)
        if journal.facts("talk"):
            check_talk(journal, *told.get("talk", (0, 0)))
        else:
            assert "talk" not in told
            with pytest.raises(NoSession):
                journal.recover("talk")


def test_an_unknown_point_is_loud() -> None:
    with pytest.raises(ValueError, match="audio-writen"):
        killer("audio-writen:2")
