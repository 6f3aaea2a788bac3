"""A commit: everything that waits, of all sessions, with one fdatasync a file."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from math import inf
from pathlib import Path

import pytest

from af3stream.journal import disk
from af3stream.journal.faults import hooked
from af3stream.journal.records import GapRecord
from tests.journal.scenes import BLOCK, Told, audio, event, facts, failing, joined, opened_store, pcm, running


def test_a_commit_syncs_each_file_of_each_session_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(disk, "sync_data", lambda file: (os.fdatasync(file), synced.append(file)))
    names = [f"s{n}" for n in range(5)]
    with opened_store(tmp_path, *names) as store:
        for name in names:  # each log has a commit already
            store.append(name, [event(1)], Told())
        store.commit(now=0.0)
        synced.clear()
        told, passed = Told(), Counter[str]()
        for name in names:
            for at in range(0, 10 * BLOCK, BLOCK):
                store.append(name, audio(at, at + BLOCK), told)
            store.append(name, [event(2), event(3)], told)
        assert store.due < inf and store.waiting_bytes > 0
        with hooked(lambda label: passed.update([label])):
            store.commit(now=1.0)
        assert (passed["audio-synced"], passed["events-committed"], len(synced)) == (5, 5, 10)
        assert [(c.session, c.durable, c.event, c.error) for c in told.commits] == [
            (name, 10 * BLOCK, 3, None) for name in names
        ]
        assert (store.due, store.waiting_bytes) == (inf, 0)


def test_audio_alone_writes_no_log(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        passed: list[str] = []
        store.append("talk", audio(0, BLOCK), Told())
        with hooked(passed.append):
            store.commit(now=0.0)
        assert passed == ["segment-create", "segment-created", "audio-write", "audio-written", "audio-synced",
                          "mark-written", "tell"]  # fmt: skip


def test_what_is_there_already_is_told_and_not_written_again(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        told = Told()
        store.append("talk", [*audio(0, 2 * BLOCK), event(1)], told)
        store.commit(now=0.0)
        store.append("talk", [*audio(0, 2 * BLOCK), event(1)], again := Told())
        assert store.due == inf
        assert again.commits == told.commits


def test_what_does_not_go_on_is_refused_until_it_does(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        told = Told()
        store.append("talk", audio(0, BLOCK), told)
        store.append("talk", audio(2 * BLOCK, 3 * BLOCK), hole := Told())
        assert hole.last.refused and hole.last.error == "storage_full"
        store.append("talk", [event(1)], early := Told())
        assert early.last.refused, "no event before the audio it may speak of"
        store.append("talk", [event(2)], jump := Told())
        assert jump.last.refused
        store.append("talk", [*audio(0, 3 * BLOCK), event(1)], told)
        store.commit(now=0.0)
        assert (told.last.durable, told.last.event, told.last.refused) == (3 * BLOCK, 1, False)


def test_a_file_is_closed_after_a_segments_worth(tmp_path: Path) -> None:
    with opened_store(tmp_path, segment_s=0.1) as store:
        for at in range(0, 12 * BLOCK, BLOCK):
            store.append("talk", audio(at, at + BLOCK), Told())
            store.commit(now=0.0)
        names = sorted(path.name for path in (tmp_path / "sessions/talk").glob("*.raw"))
        assert names == ["000001-0.raw", "000002-800.raw", "000003-1600.raw"]


def test_files_are_their_owners_only(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with running(folder) as journal:
        journal.create(facts())
        journal.append("talk", [*audio(0, BLOCK), event(1)], told := Told())
        told.durable(BLOCK, 1)
        modes = {path: path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()), modes


def test_two_threads_append_while_a_third_reads(tmp_path: Path) -> None:
    blocks = 150

    def speak(name: str, told: Told) -> None:
        for n in range(blocks):
            journal.append(name, [*audio(n * BLOCK, (n + 1) * BLOCK), event(n + 1)], told)
            if n % 30 == 0:
                told.durable(n * BLOCK)

    with running(tmp_path, segment_s=0.3, commit_every_ms=1) as journal:
        tolds = {name: Told() for name in ("left", "right")}
        for name in tolds:
            journal.create(facts(name))
        threads = [threading.Thread(target=speak, args=item) for item in tolds.items()]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            recovered = journal.recover("left")
            assert joined(recovered.audio) == pcm(0, recovered.durable)
        for name, told in tolds.items():
            told.durable(blocks * BLOCK, blocks)
            assert all(a.durable <= b.durable for a, b in zip(told.commits, told.commits[1:], strict=False))
            assert joined(journal.audio(name)) == pcm(0, blocks * BLOCK)
            assert journal.recover(name).events == [event(n + 1) for n in range(blocks)]


def test_audio_is_read_from_any_frame_on(tmp_path: Path) -> None:
    with running(tmp_path, segment_s=0.1) as journal:
        journal.create(facts())
        journal.append("talk", [*audio(0, 1600), GapRecord(1600, 900), *audio(2500, 4000)], told := Told())
        told.durable(4000)
        first, *rest = journal.audio("talk", start=2000)
        assert first == GapRecord(1600, 900)
        assert b"".join(record.pcm for record in rest) == pcm(2500, 4000)


def test_beyond_its_bound_audio_is_refused_and_events_are_kept(tmp_path: Path) -> None:
    loud = 400_000  # frames: 0.8 MB
    with running(tmp_path, waiting_mb=1) as journal:
        journal.create(facts())
        with failing("audio-written", OSError(errno.EIO, "no"), times=1_000):
            journal.append("talk", audio(0, loud, block=loud), told := Told())
            journal.append("talk", audio(loud, 2 * loud, block=loud), told)
            assert told.wait(lambda commit: commit.refused).error
            journal.append("talk", [event(1)], told)
        told.durable(loud)
        journal.append("talk", [*audio(loud, 2 * loud, block=loud), event(1)], told)
        told.durable(2 * loud, 1)


@pytest.mark.parametrize("block", [20_000, 700_000])
def test_what_is_more_than_its_bound_is_taken_in_parts(tmp_path: Path, block: int) -> None:
    records = audio(0, 2_100_000, block=block)  # 4.2 MB
    with running(tmp_path, waiting_mb=1) as journal:
        journal.create(facts())
        reached = 0
        while reached < 2_100_000:
            journal.append("talk", [r for r in records if r.end > reached], told := Told())
            before, reached = reached, told.wait(lambda commit, least=reached: commit.durable > least).durable
            assert reached - before >= min(block, 500_000)
        assert joined(journal.audio("talk")) == pcm(0, 2_100_000)


def test_nobody_hears_twice_because_one_listener_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def deaf(commit: object) -> None:
        raise LookupError("gone")

    with running(tmp_path) as journal:
        journal.create(facts())
        journal.append("talk", audio(0, BLOCK), deaf)
        journal.append("talk", audio(BLOCK, 2 * BLOCK), told := Told())
        told.durable(2 * BLOCK)
    assert "a commit callback failed" in caplog.text
