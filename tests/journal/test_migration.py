"""A journal of the layout with one database becomes a folder a session, bit for bit, wherever it is interrupted."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import ConfigError, DataLoss
from af3stream.journal.disk import lock
from af3stream.journal.facts import SessionSummary
from af3stream.journal.journal import Journal
from af3stream.journal.records import GapRecord
from tests.journal.scenes import Told, audio, config, event, facts, joined, pcm, reopened, running

LAYOUT_1 = Path(__file__).parent / "layout1"
WIDE = AudioFormat("pcm_f32le", 16_000, 2)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of a journal that the program with one database wrote."""
    return Path(shutil.copytree(LAYOUT_1, tmp_path / "journal"))


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder, and their bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listed(folder: Path) -> dict[str, SessionSummary]:
    journal = Journal(config(folder))
    summaries = {summary.facts.session: summary for summary in journal.sessions()}
    journal.stop()
    return summaries


def test_audio_events_and_facts_come_back(old: Path) -> None:
    summaries = listed(old)
    assert not list(old.glob("journal.db*"))
    assert {name: (s.facts, s.frames, s.events, s.finished_at is None) for name, s in summaries.items()} == {
        "done": (facts("done"), 12_000, 3, False),
        "talk": (facts("talk"), 5_600, 3, True),
        "wide": (facts("wide", WIDE), 800, 0, True),
        "empty": (facts("empty"), 0, 0, True),
    }
    with running(old) as journal:
        for name, expected in {"done": pcm(0, 12_000), "wide": pcm(0, 800, WIDE), "empty": b""}.items():
            recovered = journal.recover(name)
            assert joined(recovered.audio, recovered.facts.format) == expected
        assert journal.recover("done").events == journal.recover("talk").events == [event(n) for n in (1, 2, 3)]
        heard = list(journal.recover("talk").audio)
        assert GapRecord(4_000, 80) in heard
        assert joined(heard) == pcm(0, 4_000) + bytes(160) + pcm(4_080, 5_600)


def test_state_and_tokens_are_those_of_the_database(old: Path) -> None:
    with closing(sqlite3.connect(old / "journal.db")) as database:
        query = "SELECT session, touched_at, finished_at FROM sessions"
        expected = {session: (touched, finished) for session, touched, finished in database.execute(query)}
    assert {name: (s.touched_at, s.finished_at) for name, s in listed(old).items()} == expected
    now = [4.0e9]
    journal = Journal(config(old), clock=lambda: now[0])
    assert journal.session_of_token(b"new token") == journal.session_of_token(b"old token") == "talk"
    assert journal.session_of_token(b"another") is None
    now[0] = 4.1e9
    assert journal.session_of_token(b"new token") is None
    journal.stop()


def test_a_migrated_session_goes_on(old: Path) -> None:
    with running(old) as journal:
        assert journal.recover("talk").durable == 5_600
        journal.append("talk", [*audio(5_600, 8_000), event(4)], told := Told())
        told.durable(8_000, 4)
    durable, heard, events = reopened(old, "talk")
    assert (durable, heard[-4_800:], events[3:]) == (8_000, pcm(5_600, 8_000), [event(4)])


def test_an_interrupted_migration_is_done_again_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shutil.copytree(LAYOUT_1, tmp_path / "whole")
    Journal(config(whole)).stop()
    syncs, interruptions = os.fsync, 0
    while True:
        folder, left = shutil.copytree(LAYOUT_1, tmp_path / str(interruptions)), [interruptions]

        def interrupted(file: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            syncs(file)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", interrupted)
            try:
                Journal(config(folder)).stop()
                break
            except KeyboardInterrupt:
                interruptions += 1
        Journal(config(folder)).stop()
        assert {name: data for name, data in files(folder).items() if not name.endswith(".staged")} == files(whole)
    assert interruptions > 15


def test_a_damaged_event_of_the_database_stays_a_loss(old: Path) -> None:
    with closing(sqlite3.connect(old / "journal.db", isolation_level=None)) as database:
        database.execute("UPDATE events SET message = x'00' WHERE number = 2 AND session = 'talk'")
        database.execute("UPDATE events SET message = x'00' WHERE number = 3 AND session = 'done'")
    with running(old) as journal:
        with pytest.raises(DataLoss, match="events 2 to 3 "):
            journal.recover("talk")
        with pytest.raises(DataLoss, match="events 3 to 4 "):
            journal.recover("done")


def test_a_database_that_a_server_holds_is_left_alone(old: Path) -> None:
    held, before = lock(old / "lock"), files(old)
    assert held
    with pytest.raises(ConfigError, match="another server"):
        Journal(config(old))
    held.release()
    assert files(old) == before
