"""Sessions are kept as long as they may be, come back by their token, and are gone when they are deleted."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from errno import ENOENT, ENOTEMPTY
from pathlib import Path

import pytest

from af3stream.errors import ConfigError, NoSession, SetupError, StorageError
from af3stream.journal import commit_log
from af3stream.journal.disk import size_of
from af3stream.journal.facts import Row
from af3stream.journal.faults import hooked
from af3stream.journal.journal import Journal
from af3stream.journal.records import EventRecord
from tests.journal.scenes import CREATED, Told, audio, config, event, facts, pcm, running, until

HOUR = 3_600.0
SECRET = b"the codeword is heliotrope"


def fill(journal: Journal, session: str, frames: int = 8_000, finish: bool = True) -> None:
    journal.create(facts(session))
    journal.append(session, audio(0, frames, block=8_000), told := Told())
    told.durable(frames)
    if finish:
        journal.finish(session)


def test_a_session_in_the_list(tmp_path: Path) -> None:
    with running(tmp_path) as journal:
        fill(journal, "done")
        fill(journal, "live", finish=False)
        journal.append("live", [event(1)], told := Told())
        told.durable(0, 1)
        done, live = sorted(journal.sessions(), key=lambda summary: summary.facts.session)
        assert done.facts == journal.facts("done") == facts("done")
        assert (done.frames, done.events, live.frames, live.events) == (8_000, 0, 8_000, 1)
        assert done.finished_at is not None and live.finished_at is None and live.bytes > 16_000


def test_closed_sessions_are_listed_without_reading_their_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as journal:
        for name in ("finished", "left"):
            fill(journal, name, finish=False)
            journal.append(name, [event(1)], told := Told())
            told.durable(8_000, 1)
        journal.finish("finished")
    monkeypatch.delattr(commit_log, "read_bytes")
    reader = Journal(config(tmp_path))
    assert [(summary.frames, summary.events) for summary in reader.sessions()] == [(8_000, 1)] * 2
    reader.stop()


def test_a_session_whose_facts_are_damaged_is_logged_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(tmp_path) as journal:
        for name in ("good", "bad"):
            fill(journal, name)
    (tmp_path / "sessions/bad/facts.json").write_bytes(b'{"version": 2}')
    with running(tmp_path, retention_h=24.0) as journal:
        assert [summary.facts.session for summary in journal.sessions()] == ["good"]
        assert journal.sweep(time.time() + 25 * HOUR) == ["good"]
        with pytest.raises(StorageError):
            journal.recover("bad")
    assert "session=bad" in caplog.text and list((tmp_path / "sessions/bad").glob("0*"))


def test_the_newest_token_resumes_until_it_expires(tmp_path: Path) -> None:
    now = [1_000.0]
    journal = Journal(config(tmp_path), clock=lambda: now[0])
    journal.create(facts())
    journal.set_token("talk", b"old", expires_at=2_000.0)
    assert journal.session_of_token(b"old") == "talk"
    journal.set_token("talk", b"new", expires_at=1_500.0, before=b"old")
    assert (journal.session_of_token(b"old"), journal.session_of_token(b"new")) == ("talk", "talk")
    journal.confirm_token("talk", b"old")  # of a connection that was superseded meanwhile
    assert journal.session_of_token(b"old") == "talk"
    journal.confirm_token("talk", b"new")
    assert (journal.session_of_token(b"old"), journal.session_of_token(b"new")) == (None, "talk")
    now[0] = 1_500.0
    assert journal.session_of_token(b"new") is None
    journal.stop()


def test_a_sweep_deletes_what_nobody_came_for(tmp_path: Path) -> None:
    with running(tmp_path, retention_h=24.0) as journal:
        for name in ("finished", "left", "live"):
            fill(journal, name, finish=name == "finished")
        journal.release("left")
        now = time.time()
        assert journal.sweep(now + 23 * HOUR) == []
        assert set(journal.sweep(now + 25 * HOUR)) == {"finished", "left"}
        assert [summary.facts.session for summary in journal.sessions()] == ["live"]


def test_what_was_written_lately_is_not_old(tmp_path: Path) -> None:
    with running(tmp_path, retention_h=24.0) as journal:
        fill(journal, "talk", finish=False)
        journal.release("talk")
        assert journal.sessions()[0].touched_at == CREATED
        assert journal.sweep(time.time()) == []


def test_a_touch_keeps_a_session(tmp_path: Path) -> None:
    with running(tmp_path) as writer:
        fill(writer, "talk", finish=False)
    later = time.time() + 30 * 24 * HOUR
    journal = Journal(config(tmp_path, retention_h=24.0), clock=lambda: later)
    journal.touch("talk")
    assert journal.sweep(later) == []
    journal.stop()


def test_who_comes_while_a_sweep_is_under_way_finds_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time() + 30 * 24 * HOUR
    with running(tmp_path, retention_h=24.0) as journal:
        for name in ("resumed", "touched", "old"):
            fill(journal, name, finish=False)
            journal.release(name)
        last_used = journal._last_used

        def somebody_comes(row: Row) -> float:
            if row.facts.session == "resumed":
                journal.recover("resumed")
            if row.facts.session == "touched":
                journal.touch("touched")
            return last_used(row)

        monkeypatch.setattr(journal, "_last_used", somebody_comes)
        assert journal.sweep(now) == ["old"]
        assert {summary.facts.session for summary in journal.sessions()} == {"resumed", "touched"}


def test_over_the_quota_the_first_finished_goes_and_never_a_live_one(tmp_path: Path) -> None:
    now = [2e9]
    journal = Journal(config(tmp_path, quota_mb=1), clock=lambda: now[0])
    journal.start()
    fill(journal, "live", 100_000, finish=False)
    for name in ("b", "a", "c"):
        now[0] += 1
        fill(journal, name, 100_000)
    until(lambda: not list(tmp_path.glob("sessions/[abc]/*.raw")))  # sealing makes room
    room = journal._store.space
    room.quota = size_of(room.folder / "sessions")
    deleted = journal.sweep(now[0])
    assert deleted and deleted == ["b", "a", "c"][: len(deleted)]
    room.quota = 1
    assert journal.sweep(now[0]) == ["b", "a", "c"][len(deleted) :]
    assert [summary.facts.session for summary in journal.sessions()] == ["live"]
    journal.stop()


@pytest.mark.parametrize("state", ["live", "released", "finished"])
def test_deleted_is_gone(tmp_path: Path, state: str) -> None:
    with running(tmp_path, segment_s=0.5) as journal:
        fill(journal, "other")
        fill(journal, "talk", finish=False)
        events = [EventRecord(n, b'{"text":"%s"}' % (SECRET * 300)) for n in range(1, 40)]
        journal.append("talk", events, told := Told())
        told.durable(8_000, 39)
        journal.set_token("talk", SECRET, 2e9)
        assert SECRET in (tmp_path / "sessions/talk/events.log").read_bytes()
        if state != "live":
            (journal.release if state == "released" else journal.finish)("talk")
        journal.delete("talk")
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not [path for path in kept if "talk" in str(path)]
        for path in kept:
            data = path.read_bytes()
            assert SECRET not in data and b"talk" not in data, path
            assert "other" in str(path) or pcm(0, 8_000)[:200] not in data
        with pytest.raises(NoSession):
            journal.recover("talk")
        journal.append("talk", audio(8_000, 8_160), told := Told())
        assert list(journal.audio("other")) and not told.commits
        journal.create(facts("talk"))
        assert journal.recover("talk").events == []


def test_one_server_a_folder(tmp_path: Path) -> None:
    with running(tmp_path) as journal:
        second = Journal(config(tmp_path))
        with pytest.raises(ConfigError, match="another server"):
            second.start()
        fill(journal, "live", finish=False)
        fill(journal, "done")
        with pytest.raises(SetupError, match="open on a server"):
            second.delete("live")
        second.delete("done")
        assert [summary.facts.session for summary in second.sessions()] == ["live"]
        second.stop()
    alone = Journal(config(tmp_path))
    alone.delete("live")
    assert alone.sessions() == []
    alone.stop()


@pytest.mark.parametrize("label", ["seal-encoded", "seal-staged", "seal-verified", "seal-revealed", "seal-recorded"])
def test_a_session_deleted_by_another_process_while_a_server_seals_it(tmp_path: Path, label: str) -> None:
    deleted: list[bool] = []

    def delete(passed: str) -> None:
        if passed == label and not deleted:
            deleted.append(True)
            second.delete("done")

    second = Journal(config(tmp_path))
    with running(tmp_path) as journal, hooked(delete):
        fill(journal, "done")
        until(lambda: bool(deleted))
        fill(journal, "next")  # is not kept waiting
        until(lambda: bool(list((tmp_path / "sessions/next").glob("*.flac"))))
        assert [path.name for path in (tmp_path / "sessions").iterdir()] == ["next"]
        assert [summary.facts.session for summary in journal.sessions()] == ["next"]
    second.stop()


def test_files_that_come_and_go_while_a_session_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as journal:
        fill(journal, "done")
        journal.release("done")
        remove, refusals = shutil.rmtree, [OSError(ENOENT, "vanished"), OSError(ENOTEMPTY, "appeared")]

        def racing(folder: Path) -> None:
            if refusals:
                raise refusals.pop(0)
            remove(folder)

        monkeypatch.setattr(shutil, "rmtree", racing)
        journal.delete("done")
        assert not refusals and not list((tmp_path / "sessions").iterdir())


def test_a_released_session_is_written_again_when_it_is_recovered(tmp_path: Path) -> None:
    with running(tmp_path) as journal:
        fill(journal, "talk", finish=False)
        for end in (16_000, 24_000):
            journal.release("talk")
            assert journal.recover("talk").durable == end - 8_000
            journal.append("talk", audio(end - 8_000, end), told := Told())
            told.durable(end)
        assert b"".join(record.pcm for record in journal.audio("talk")) == pcm(0, 24_000)


def test_a_database_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match="cannot be used"):
        Journal(config(tmp_path))


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(ConfigError, match="version 7, expected 1"):
        Journal(config(tmp_path))


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Not a directory"):
        Journal(config(tmp_path / "file/journal"))
