"""A session of a shared folder has one owner at a time; a new one sees all that was acknowledged before."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from af3stream.errors import ConfigError, NoSession, SetupError, Superseded
from af3stream.journal import owner_files, ownership
from af3stream.journal.export import export
from af3stream.journal.facts import Row
from af3stream.journal.faults import hooked
from af3stream.journal.journal import Journal
from af3stream.journal.ownership import ABANDONED_S
from af3stream.journal.records import GapRecord, encode
from tests.journal.scenes import (
    BLOCK,
    Told,
    audio,
    config,
    event,
    facts,
    failing,
    joined,
    pcm,
    record_session,
    running,
    until,
)

HOUR = 3_600.0
LONG_AGO = 1.7e9  # unix seconds


def sharing(folder: Path, **changes: Any) -> AbstractContextManager[Journal]:
    return running(folder, **({"shared": True} | changes))


@contextmanager
def reading(folder: Path) -> Iterator[Journal]:
    """A process that writes nothing, and knows nothing of the configuration of the servers."""
    journal = Journal(config(folder))
    yield journal
    journal.stop()


def say(journal: Journal, start: int, end: int, number: int = 0) -> None:
    """Append audio, and the event with this number, and wait until it is acknowledged."""
    journal.append("talk", [*audio(start, end), *([event(number)] if number else [])], told := Told())
    told.durable(end, number)


def heard(journal: Journal) -> tuple[bytes, list[int]]:
    recovered = journal.recover("talk")
    return joined(recovered.audio), [event.number for event in recovered.events]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_owner_continues_where_the_old_one_acknowledged(tmp_path: Path) -> None:
    with sharing(tmp_path) as a, sharing(tmp_path) as b:
        a.create(facts())
        say(a, 0, 4 * BLOCK, 1)
        recovered = b.recover("talk")
        assert (recovered.durable, recovered.events) == (4 * BLOCK, [event(1)])
        say(b, 4 * BLOCK, 6 * BLOCK, 2)
        assert heard(b) == (pcm(0, 6 * BLOCK), [1, 2])


def test_the_old_owner_acknowledges_nothing_any_more(tmp_path: Path) -> None:
    with sharing(tmp_path) as a, sharing(tmp_path) as b:
        a.create(facts())
        say(a, 0, 2 * BLOCK)
        b.recover("talk")
        a.append("talk", [*audio(2 * BLOCK, 4 * BLOCK), event(1)], told := Told())
        assert told.wait(lambda commit: commit.superseded).durable == 2 * BLOCK
        assert told.last.event == 0
        a.append("talk", audio(4 * BLOCK, 5 * BLOCK), later := Told())
        assert heard(b) == (pcm(0, 2 * BLOCK), [])
        assert not later.commits


def test_the_old_owner_writes_nothing_any_more(tmp_path: Path) -> None:
    with sharing(tmp_path) as a, sharing(tmp_path) as b:
        a.create(facts())
        say(a, 0, 2 * BLOCK)
        a.set_token("talk", b"first", 3e9)
        b.recover("talk")
        own = tmp_path / "sessions/talk/fence-1"
        before = files(own)
        with pytest.raises(Superseded):
            a.set_token("talk", b"second", 3e9)
        a.confirm_token("talk", b"first")
        a.touch("talk")
        a.set_engine("talk", "gpu-1")
        a.finish("talk")
        a.release("talk")
        assert not a.holds("talk") and b.holds("talk")
        assert files(own) == before
        assert b.session_of_token(b"first") == a.session_of_token(b"first", "talk") == "talk"


def test_an_idle_owner_learns_that_it_was_superseded_when_it_renews(tmp_path: Path) -> None:
    with sharing(tmp_path) as a, sharing(tmp_path) as b:
        for name in ("talk", "other"):
            a.create(facts(name))
        assert a.renew() == []
        b.recover("talk")
        assert a.renew() == ["talk"]
        assert a.renew() == [] and a.holds("other")


def test_what_the_old_owner_wrote_later_counts_for_nobody(tmp_path: Path) -> None:
    """Not for a third owner, a reader, an export, or a sweep."""
    folder = tmp_path / "journal"
    with sharing(folder) as a, sharing(folder) as b, sharing(folder, retention_h=1.0) as c:
        a.create(facts())
        say(a, 0, 4 * BLOCK, 1)
        b.recover("talk")
        with (folder / "sessions/talk/fence-1/000001-0.raw").open("ab") as file:  # a write that was under way
            file.write(b"".join(encode(GapRecord(at, BLOCK)) for at in range(4 * BLOCK, 9 * BLOCK, BLOCK)))
        a.append("talk", [event(2), event(3)], told := Told())
        told.wait(lambda commit: commit.superseded)
        os.utime(folder / "sessions/talk/fence-1/mark", (3e9, 3e9))
        say(b, 4 * BLOCK, 5 * BLOCK, 2)
        whole = (pcm(0, 5 * BLOCK), [1, 2])
        with reading(folder) as reader:
            assert heard(reader) == whole
            (path,) = export(reader, "talk", tmp_path / "out", ["json"])
            assert f'"frames": {5 * BLOCK}' in path.read_text()
        assert heard(c) == whole
        c.release("talk")
        assert c.sweep(time.time() + 2 * HOUR) == ["talk"]


@pytest.mark.parametrize("owners", [2, 7])
def test_a_session_passes_through_many_owners(tmp_path: Path, owners: int) -> None:
    """Some release it, some are superseded; segments of all of them are sealed, some by a later owner."""
    step = 3 * BLOCK
    for n in range(owners):
        with sharing(tmp_path, segment_s=0.05) as journal:
            if n == 0:
                journal.create(facts())
            else:
                assert heard(journal) == (pcm(0, n * step), list(range(1, n + 1)))
            for at in range(n * step, (n + 1) * step, BLOCK):
                say(journal, at, at + BLOCK)
            say(journal, (n + 1) * step, (n + 1) * step, n + 1)
            if n % 2:
                journal.release("talk")
            assert journal.lease("talk").fence == n + 1  # type: ignore[union-attr]
    with reading(tmp_path) as reader:
        assert heard(reader) == (pcm(0, owners * step), list(range(1, owners + 1)))
        assert [summary.frames for summary in reader.sessions()] == [owners * step]


def test_a_server_takes_a_session_back(tmp_path: Path) -> None:
    with sharing(tmp_path) as a, sharing(tmp_path) as b:
        a.create(facts())
        say(a, 0, BLOCK)
        b.recover("talk")
        say(b, BLOCK, 2 * BLOCK)
        a.take("talk")
        assert a.recover("talk").durable == 2 * BLOCK
        say(a, 2 * BLOCK, 3 * BLOCK, 1)
        assert b.renew() == ["talk"] and heard(a) == (pcm(0, 3 * BLOCK), [1])


def test_a_segment_that_two_owners_seal_counts_once(tmp_path: Path) -> None:
    with sharing(tmp_path, segment_s=0.05) as a, sharing(tmp_path, segment_s=0.05) as b:
        a.create(facts())
        a._store._sealer.step = lambda now: False  # type: ignore[method-assign] # it has no time for it
        for at in range(0, 9 * BLOCK, 3 * BLOCK):
            say(a, at, at + 3 * BLOCK)
        assert len(list((tmp_path / "sessions/talk/fence-1").glob("*.raw"))) == 3
        b.recover("talk")
        until(lambda: len(list((tmp_path / "sessions/talk/fence-2").glob("*.flac"))) == 3)
        del a._store._sealer.step  # type: ignore[method-assign]
        until(lambda: not a._store._sealer.step(time.monotonic()))
        assert heard(b) == (pcm(0, 9 * BLOCK), [])
        with sharing(tmp_path) as c:
            assert heard(c) == (pcm(0, 9 * BLOCK), [])


def test_a_reader_whose_files_a_new_owner_seals_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sharing(tmp_path, segment_s=0.05) as a, sharing(tmp_path, segment_s=0.05) as b, reading(tmp_path) as reader:
        a.create(facts())
        a._store._sealer.step = lambda now: False  # type: ignore[method-assign]
        for at in range(0, 9 * BLOCK, 3 * BLOCK):
            say(a, at, at + 3 * BLOCK)
        audio_files = owner_files.audio_files

        def late(row: Row) -> Any:
            if row.fence == 1 and not b.holds("talk"):
                monkeypatch.undo()
                b.recover("talk")
                until(lambda: not list((tmp_path / "sessions/talk/fence-1").glob("00000[12]-*.raw")))
            return audio_files(row)

        monkeypatch.setattr(owner_files, "audio_files", late)
        assert heard(reader) == (pcm(0, 9 * BLOCK), [])


@pytest.mark.parametrize("label", ["lease-claimed", "takeover-written", "takeover-done"])
def test_an_owner_that_dies_during_a_takeover_loses_nothing(tmp_path: Path, label: str) -> None:
    with sharing(tmp_path / "alive") as a, sharing(tmp_path / "alive") as b:
        a.create(facts())
        say(a, 0, 4 * BLOCK, 1)

        def die(passed: str) -> None:
            if passed == label:
                shutil.copytree(tmp_path / "alive", tmp_path / "dead")

        with hooked(die):
            b.recover("talk")
    with sharing(tmp_path / "dead") as c:
        assert heard(c) == (pcm(0, 4 * BLOCK), [1])
        say(c, 4 * BLOCK, 5 * BLOCK, 2)
    with reading(tmp_path / "dead") as reader:
        assert heard(reader) == (pcm(0, 5 * BLOCK), [1, 2])


def test_of_two_that_take_a_session_at_once_the_newer_fence_has_it(tmp_path: Path) -> None:
    """The older one has read, and writes its facts after the newer one continued."""
    with sharing(tmp_path) as a, sharing(tmp_path) as b, sharing(tmp_path) as c:
        a.create(facts())
        say(a, 0, 2 * BLOCK, 1)
        waiting, go_on = threading.Event(), threading.Event()

        def pause(passed: str) -> None:
            if passed == "takeover-written" and not waiting.is_set():
                waiting.set()
                assert go_on.wait(60)

        refusals: list[Superseded] = []

        def take() -> None:
            try:
                b.recover("talk")
            except Superseded as error:
                refusals.append(error)

        with hooked(pause):
            slow = threading.Thread(target=take)
            slow.start()
            assert waiting.wait(60)
            assert c.recover("talk").durable == 2 * BLOCK
            say(c, 2 * BLOCK, 3 * BLOCK, 2)
            go_on.set()
            slow.join()
        assert refusals and c.holds("talk") and not b.holds("talk")
        say(c, 3 * BLOCK, 4 * BLOCK)
        assert heard(c) == (pcm(0, 4 * BLOCK), [1, 2])


def test_only_one_creates_a_lease(tmp_path: Path) -> None:
    folder = tmp_path / "sessions/talk"
    folder.mkdir(parents=True)
    several = [ownership.Leases(tmp_path) for _ in range(8)]
    won: list[int | None] = []
    threads = [
        threading.Thread(target=lambda mine=leases: won.append(mine.claim("talk", after=0))) for leases in several
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won, key=str) == [1, *[None] * 7]
    assert [path.name for path in folder.iterdir()] == ["lease-1"]


def test_a_lease_whose_creation_was_confirmed_too_late_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system sends a request again if its reply is lost, and is told that the name exists."""
    (tmp_path / "sessions/talk").mkdir(parents=True)
    link = os.link

    def twice(*paths: Any) -> None:
        link(*paths)
        link(*paths)

    monkeypatch.setattr(os, "link", twice)
    leases = ownership.Leases(tmp_path, "ann")
    assert leases.claim("talk") == 1
    lease = leases.read("talk", 1)
    assert lease and lease.owner == leases.owner and lease.owner.startswith("ann:")


def test_nothing_is_acknowledged_while_a_lease_cannot_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sharing(tmp_path) as journal:
        journal.create(facts())
        with failing("lease-checked", OSError(errno.EIO, "failed")):
            journal.append("talk", [*audio(0, BLOCK), event(1)], told := Told())
            failed = told.wait(lambda commit: commit.error is not None)
        assert (failed.durable, failed.event, failed.error) == (0, 0, "storage_error")
        told.durable(BLOCK, 1)  # it is checked again
        assert heard(journal) == (pcm(0, BLOCK), [1])


def test_the_lease_names_the_owner_and_the_engine(tmp_path: Path) -> None:
    with sharing(tmp_path, owner="ann") as a, sharing(tmp_path, owner="bob") as b:
        a.create(facts())
        a.set_engine("talk", "gpu-1")
        lease = a.lease("talk")
        assert lease and (lease.owner.split(":")[0], lease.fence, lease.engine) == ("ann", 1, "gpu-1")
        b.recover("talk")
        lease = a.lease("talk")
        assert lease and (lease.owner.split(":")[0], lease.fence, lease.engine) == ("bob", 2, "gpu-1")
        assert a.lease("absent") is None


def test_a_token_is_found_by_the_session_that_it_names(tmp_path: Path) -> None:
    with sharing(tmp_path) as a, sharing(tmp_path) as b:
        assert b.session_of_token(b"token") is None  # its index is built before the session exists
        a.create(facts())
        a.set_token("talk", b"token", 3e9)
        assert b.session_of_token(b"token", "talk") == "talk"
        for other in ("absent", "../talk", ""):
            assert b.session_of_token(b"token", other) is None


# ---- journals of one server ------------------------------------------------------------------------------------------


def test_a_journal_of_one_server_has_no_leases(tmp_path: Path) -> None:
    folder = record_session(tmp_path, [*audio(0, BLOCK), event(1)])
    names = {path.name for path in folder.iterdir()}
    assert names == {"facts.json", "events.log", "events.mark", "mark", "000001-0.raw"}
    with running(tmp_path) as journal:
        lease = journal.lease("talk")
        assert lease and (lease.owner, lease.fence) == ("", 0)
        assert journal.holds("talk") and journal.renew() == [] and not journal.shared


def test_a_journal_of_one_server_continues_when_it_is_shared(tmp_path: Path) -> None:
    with running(tmp_path, segment_s=0.05) as journal:
        journal.create(facts())
        for at in range(0, 6 * BLOCK, 3 * BLOCK):
            say(journal, at, at + 3 * BLOCK)
        journal.set_token("talk", b"token", 3e9)
    before = files(tmp_path / "sessions/talk")
    with sharing(tmp_path) as journal:
        assert journal.session_of_token(b"token") == "talk"
        assert heard(journal) == (pcm(0, 6 * BLOCK), [])
        say(journal, 6 * BLOCK, 7 * BLOCK, 1)
        assert heard(journal) == (pcm(0, 7 * BLOCK), [1])
    after = files(tmp_path / "sessions/talk")
    assert all(after.get(path, data) == data for path, data in before.items())
    with pytest.raises(ConfigError, match=r"journal\.shared"):
        Journal(config(tmp_path)).start()


def test_a_folder_is_not_shared_while_one_server_uses_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("af3stream.journal.journal.LOCK_S", 0.0)
    with running(tmp_path), pytest.raises(ConfigError, match="not shared"):
        Journal(config(tmp_path, shared=True)).start()
    with sharing(tmp_path), sharing(tmp_path):
        pass


# ---- sweeping, tidying and deleting ----------------------------------------------------------------------------------


def test_a_sweep_leaves_the_open_sessions_of_other_servers(tmp_path: Path) -> None:
    old = time.time() - 30 * 24 * HOUR
    with sharing(tmp_path) as a, sharing(tmp_path, retention_h=1.0) as b:
        for name in ("talk", "left", "abandoned"):
            a.create(facts(name))
        a.release("left")
        for mark in tmp_path.rglob("mark"):
            os.utime(mark, (old, old))
        a.release("abandoned")
        a.renew()
        assert sorted(b.sweep(time.time())) == ["abandoned", "left"]
        assert [summary.facts.session for summary in a.sessions()] == ["talk"]


def test_an_owner_that_shows_no_life_is_taken_for_dead(tmp_path: Path) -> None:
    with sharing(tmp_path) as a, sharing(tmp_path) as b:
        a.create(facts())
        say(a, 0, BLOCK)
        with reading(tmp_path) as reader:
            for process in (b, reader):
                with pytest.raises(SetupError, match="open on a server"):
                    process.delete("talk")
        long_ago = time.time() - ABANDONED_S - 60
        os.utime(tmp_path / "sessions/talk/fence-1/mark", (long_ago, long_ago))
        b.delete("talk")
        a.append("talk", audio(BLOCK, 2 * BLOCK), told := Told())  # it lived after all
        told.wait(lambda commit: commit.superseded)
        assert not list((tmp_path / "sessions").iterdir())
        with pytest.raises(NoSession):
            a.recover("talk")


def test_a_session_that_is_deleted_is_no_session_while_its_files_are_removed(tmp_path: Path) -> None:
    with sharing(tmp_path / "alive") as a:
        a.create(facts())
        say(a, 0, BLOCK)

        def die(passed: str) -> None:
            if passed == "session-forgotten":
                shutil.copytree(tmp_path / "alive", tmp_path / "dead")

        with hooked(die):
            a.delete("talk")
        assert not list((tmp_path / "alive/sessions").iterdir())
    with reading(tmp_path / "dead") as reader:
        assert reader.sessions() == [] and reader.facts("talk") is None
    with sharing(tmp_path / "dead"):
        assert not list((tmp_path / "dead/sessions").iterdir())


def test_a_session_that_was_never_created_whole_is_removed_later(tmp_path: Path) -> None:
    new, old = tmp_path / "sessions/new", tmp_path / "sessions/old"
    for folder in (new, old):
        folder.mkdir(parents=True)
    os.utime(old, (1e9, 1e9))
    with sharing(tmp_path):
        assert [path.name for path in (tmp_path / "sessions").iterdir()] == ["new"]


def test_what_a_dead_owner_left_of_an_ended_session_is_sealed_at_the_next_start(tmp_path: Path) -> None:
    with sharing(tmp_path / "alive", segment_s=0.05) as a:
        a._store._sealer.step = lambda now: False  # type: ignore[method-assign]
        for name in ("talk", "open"):
            a.create(facts(name))
            a.append(name, [*audio(0, 8 * BLOCK), event(1)], told := Told())
            told.durable(8 * BLOCK, 1)
        a._clock = lambda: LONG_AGO
        a.finish("talk")
        a._clock = time.time
        a.create(facts("just-ended"))
        a.append("just-ended", audio(0, BLOCK), told := Told())
        told.durable(BLOCK)
        a.finish("just-ended")
        (tmp_path / "alive/sessions/talk/fence-1/000009.flac.staged").touch()
        shutil.copytree(tmp_path / "alive", tmp_path / "dead")
    for name in ("talk", "open"):
        os.utime(tmp_path / f"dead/sessions/{name}/lease-1", (LONG_AGO, LONG_AGO))
    with sharing(tmp_path / "dead") as b, sharing(tmp_path / "dead") as c:
        talk = tmp_path / "dead/sessions/talk"
        until(lambda: not list(talk.rglob("fence-2/*.raw")))
        assert len(list(talk.glob("fence-2/*.flac"))) == 1 and not list(talk.rglob("*.staged"))
        for name in ("open", "just-ended"):  # their owner may live
            assert b.lease(name).fence == 1  # type: ignore[union-attr]
        assert heard(c) == (pcm(0, 8 * BLOCK), [1])
        assert c.recover("talk").finished


def test_servers_that_start_at_once_share_a_new_folder(tmp_path: Path) -> None:
    for attempt in range(20):
        with ThreadPoolExecutor(8) as servers:
            journals = [*servers.map(Journal, [config(tmp_path / str(attempt), shared=True)] * 8)]
        assert len(journals) == 8
