"""A disk that refuses: nothing counts that is not on it, everything is kept, and the rest of the world goes on."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from af3stream.errors import StorageError
from af3stream.journal.facts import Commit
from tests.journal.scenes import (
    BLOCK,
    Told,
    audio,
    disk_of,
    event,
    facts,
    failing,
    joined,
    opened_store,
    pcm,
    record_session,
    reopened,
    running,
)  # fmt: skip

EIO = OSError(errno.EIO, "input/output error")
POINTS = ["segment-create", "segment-created", "audio-write", "audio-written", "events-insert", "log-commit"]


def outcome(commit: Commit) -> tuple[int, int, str | None]:
    return commit.durable, commit.event, commit.error


@pytest.mark.parametrize("label", POINTS)
@pytest.mark.parametrize("times", [1, 3])
def test_what_failed_is_kept_and_tried_again_each_second(tmp_path: Path, label: str, times: int) -> None:
    with opened_store(tmp_path) as store:
        store.append("talk", [*audio(0, 2 * BLOCK), event(1)], told := Told())
        with failing(label, EIO, times):
            for second in range(times + 1):
                store.commit(now=second + 0.0)
                store.commit(now=second + 0.9)  # too early: nothing happens
        reached = 2 * BLOCK if label in ("events-insert", "log-commit") else 0
        assert list(map(outcome, told.commits)) == [(reached, 0, "storage_error")] * times + [(2 * BLOCK, 1, None)]
    assert reopened(tmp_path) == (2 * BLOCK, pcm(0, 2 * BLOCK), [event(1)])


def test_a_file_whose_sync_failed_is_never_written_again(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        store.append("talk", audio(0, BLOCK), Told())
        store.commit(now=0.0)
        (first,) = (tmp_path / "sessions/talk").glob("*.raw")
        durable = first.read_bytes()
        store.append("talk", audio(BLOCK, 2 * BLOCK), Told())
        with failing("audio-written", EIO):
            store.commit(now=1.0)
        store.commit(now=2.0)
        assert first.read_bytes() == durable
        assert (first.parent / f"000002-{BLOCK}.raw").stat().st_size == len(durable)
    assert reopened(tmp_path) == (2 * BLOCK, pcm(0, 2 * BLOCK), [])


def test_a_disk_that_always_fails_leaves_no_files_behind(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store, failing("audio-written", EIO, times=100):
        store.append("talk", audio(0, BLOCK), told := Told())
        for second in range(20):
            store.commit(now=float(second))
        assert {outcome(commit) for commit in told.commits} == {(0, 0, "storage_error")}
        assert not list((tmp_path / "sessions/talk").glob("*.raw"))


def test_no_event_is_durable_before_the_audio_it_speaks_of(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        store.append("talk", [*audio(0, BLOCK), event(1)], told := Told())
        with failing("audio-written", EIO):
            store.commit(now=0.0)
        assert outcome(told.last) == (0, 0, "storage_error")
    assert reopened(tmp_path) == (0, b"", [])


def test_one_sessions_failure_is_its_own(tmp_path: Path) -> None:
    with opened_store(tmp_path, "bad", "good") as store:
        for name in ("bad", "good"):
            store.append(name, [*audio(0, BLOCK), event(1)], told := Told())
        with failing("audio-written", EIO):
            store.commit(now=0.0)
        assert (told.last.session, outcome(told.last)) == ("good", (BLOCK, 1, None))


@pytest.mark.parametrize(
    ("changes", "holds"),
    [({}, True), ({"quota_mb": 1}, False), ({"reserve_mb": 1 << 40}, False)],
    ids=["room", "quota", "reserve"],
)
def test_quota_and_reserve_stop_acknowledgements(tmp_path: Path, changes: dict[str, int], holds: bool) -> None:
    with opened_store(tmp_path, **changes) as store:
        store.append("talk", audio(0, 600_000), told := Told())  # 1.2 MB
        store.commit(now=0.0)
        assert outcome(told.last) == ((600_000, 0, None) if holds else (0, 0, "storage_full"))
        assert bool(list((tmp_path / "sessions/talk").glob("*.raw"))) == holds


def test_a_session_that_cannot_be_read_is_told_as_such(tmp_path: Path) -> None:
    folder = record_session(tmp_path, audio(0, BLOCK))
    (raw,) = folder.glob("*.raw")
    raw.unlink()
    raw.mkdir()
    with running(tmp_path) as journal:
        for read in (journal.recover, journal.audio):
            with pytest.raises(StorageError):
                read("talk")


def test_room_that_is_made_is_used(tmp_path: Path) -> None:
    with running(tmp_path, quota_mb=1) as journal:
        for name in ("done", "talk"):
            journal.create(facts(name))
        journal.append("done", audio(0, 350_000), told := Told())
        told.durable(350_000)
        journal.finish("done")
        journal.append("talk", audio(0, 300_000), told := Told())
        assert told.wait(lambda commit: True).error == "storage_full"
        journal.delete("done")
        told.durable(300_000)


def test_a_disk_too_full_for_events_is_told_as_such(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "full")
    with opened_store(tmp_path) as store:
        store.append("talk", [event(1)], told := Told())
        with failing("events-insert", full):
            store.commit(now=0.0)
        assert outcome(told.last) == (0, 0, "storage_full")


def test_finished_means_durable_even_where_the_disk_refuses_for_a_while(tmp_path: Path) -> None:
    with running(tmp_path) as journal:
        journal.create(facts())
        with failing("audio-written", EIO):
            journal.append("talk", audio(0, BLOCK), told := Told())
            told.wait(lambda commit: commit.error == "storage_error")
            journal.finish("talk")
            assert journal.sessions()[0].finished_at is None
            told.durable(BLOCK)
        journal._writer.call(lambda: None)
        assert journal.sessions()[0].finished_at is not None


@pytest.mark.parametrize("label", ["audio-write", "audio-written", "mark-written", "log-commit"])
def test_a_commit_that_fails_unforeseen_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, label: str
) -> None:
    with running(tmp_path) as journal:
        journal.create(facts())
        journal.append("talk", audio(0, BLOCK), told := Told())
        told.durable(BLOCK)
        with failing(label, ZeroDivisionError()):
            journal.append("talk", [*audio(BLOCK, 2 * BLOCK), event(1)], told)
            told.durable(2 * BLOCK, 1)
        journal.append("talk", audio(2 * BLOCK, 3 * BLOCK), told)
        told.durable(3 * BLOCK)
    assert reopened(tmp_path) == (3 * BLOCK, pcm(0, 3 * BLOCK), [event(1)])
    assert "unexpected error" in caplog.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of(1, tmp_path / "small") as folder:
        yield folder


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    with running(small_disk / "journal", segment_s=600) as journal:
        journal.create(facts())
        told = Told()
        for at in range(0, 400_000, 20_000):  # 800 kB into 400 kB
            journal.append("talk", audio(at, at + 20_000, block=20_000), told)
        safe = told.wait(lambda commit: commit.error == "storage_full").durable
        assert safe < 400_000
        heard = joined(journal.recover("talk").audio)
        assert heard == pcm(0, len(heard) // 2) and len(heard) // 2 >= safe
        ballast.unlink()
        told.durable(400_000)
    assert reopened(small_disk / "journal") == (400_000, pcm(0, 400_000), [])


def test_a_really_full_disk_leaves_the_sealing_for_later(small_disk: Path) -> None:
    with running(small_disk / "journal", segment_s=12) as journal:
        journal.create(facts())
        (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free - 220_000))
        journal.append("talk", audio(0, 100_000, block=20_000), told := Told())
        told.durable(100_000)
        journal.finish("talk")
        assert joined(journal.recover("talk").audio) == pcm(0, 100_000)
