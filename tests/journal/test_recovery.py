"""After a sudden end: what was acknowledged is there, or its loss is named; what was torn does not count."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from af3stream.errors import DataLoss, NoSession
from af3stream.journal.commit_log import encode as encode_commit
from af3stream.journal.commit_log import scan
from af3stream.journal.journal import Journal
from af3stream.journal.reading import read_timeline
from af3stream.journal.records import AudioRecord, encode
from af3stream.journal.segments import Mark, raw_files
from tests.journal.scenes import BLOCK, Told, audio, config, event, facts, pcm, record_session, reopened, running

RECORD = len(encode(audio(0, BLOCK)[0]))  # bytes; all records are as long


def acknowledged(folder: Path, frames: int) -> None:
    """Set the mark."""
    mark = Mark(folder)
    mark.write(frames)
    mark.close()


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A session of four records, one a commit, all acknowledged; closed as by a kill."""
    journal_folder = tmp_path / "journal"
    with running(journal_folder) as journal:
        journal.create(facts())
        for at in range(0, 4 * BLOCK, BLOCK):
            journal.append("talk", audio(at, at + BLOCK), told := Told())
            told.durable(at + BLOCK)
        shutil.copytree(journal_folder, tmp_path / "killed")
    return tmp_path / "killed/sessions/talk"


def raw(talk: Path) -> Path:
    return talk / "000001-0.raw"


def test_everything_acknowledged_comes_back(talk: Path) -> None:
    assert reopened(talk.parents[1]) == (4 * BLOCK, pcm(0, 4 * BLOCK), [])


def test_cut_at_any_byte_above_the_mark_the_whole_records_count(talk: Path) -> None:
    acknowledged(talk, 2 * BLOCK)
    data = raw(talk).read_bytes()
    for size in range(2 * RECORD, 4 * RECORD + 1):
        raw(talk).write_bytes(data[:size])
        assert read_timeline(talk, 0, lambda: raw_files(talk)).end == size // RECORD * BLOCK


def test_cut_at_any_byte_below_the_mark_the_loss_is_named(talk: Path) -> None:
    data = raw(talk).read_bytes()
    for size in range(4 * RECORD):
        raw(talk).write_bytes(data[:size])
        with pytest.raises(DataLoss) as caught:
            read_timeline(talk, 0, lambda: raw_files(talk))
        assert (caught.value.start, caught.value.end) == (size // RECORD * BLOCK, 4 * BLOCK)


@pytest.mark.parametrize("size", [2 * RECORD, 2 * RECORD + 1, 3 * RECORD - 1, 3 * RECORD, 4 * RECORD - 1])
def test_what_a_recovery_reports_is_acknowledged(talk: Path, size: int) -> None:
    acknowledged(talk, 2 * BLOCK)
    raw(talk).write_bytes(raw(talk).read_bytes()[:size])
    whole = size // RECORD * BLOCK
    assert reopened(talk.parents[1]) == (whole, pcm(0, whole), [])
    assert Mark.read(talk) == whole


@pytest.mark.parametrize("byte", range(0, 4 * RECORD, 37))
def test_a_flipped_bit_is_a_loss_below_the_mark_and_a_torn_tail_above(talk: Path, byte: int) -> None:
    acknowledged(talk, 2 * BLOCK)
    data = bytearray(raw(talk).read_bytes())
    data[byte] ^= 0x10
    raw(talk).write_bytes(data)
    whole = byte // RECORD * BLOCK
    if whole >= 2 * BLOCK:
        assert reopened(talk.parents[1]) == (whole, pcm(0, whole), [])
    else:
        with pytest.raises(DataLoss) as caught:
            reopened(talk.parents[1])
        assert (caught.value.start, caught.value.end) == (whole, 2 * BLOCK)


def test_a_tail_above_the_mark_is_written_again(talk: Path) -> None:
    acknowledged(talk, BLOCK)
    old = raw(talk).read_bytes()
    reopened(talk.parents[1])
    assert (talk / f"000002-{BLOCK}.raw").read_bytes() == old[RECORD:]
    raw(talk).write_bytes(old[:RECORD])  # from now on, nothing depends on where it stood first
    assert reopened(talk.parents[1]) == (4 * BLOCK, pcm(0, 4 * BLOCK), [])


def test_a_session_goes_on_after_a_torn_tail(talk: Path) -> None:
    acknowledged(talk, 2 * BLOCK)
    raw(talk).write_bytes(raw(talk).read_bytes()[: 3 * RECORD - 1])
    for end in (5 * BLOCK, 7 * BLOCK):
        with running(talk.parents[1]) as journal:
            durable = journal.recover("talk").durable
            journal.append("talk", audio(durable, end), told := Told())
            told.durable(end)
    assert reopened(talk.parents[1]) == (7 * BLOCK, pcm(0, 7 * BLOCK), [])


def test_a_missing_file_is_a_loss(tmp_path: Path) -> None:
    folder = record_session(tmp_path, audio(0, 960), audio(960, 1920), segment_s=0.1)
    left = sorted(folder.glob("*.[rfz]*"))
    left[0].unlink()
    with pytest.raises(DataLoss) as caught:
        reopened(tmp_path)
    assert caught.value.start == 0


@pytest.mark.parametrize("mark", [b"", b"short", bytes(12), b"\xff" * 12])
def test_a_damaged_mark_costs_nothing(talk: Path, mark: bytes) -> None:
    (talk / "mark").write_bytes(mark)
    assert reopened(talk.parents[1]) == (4 * BLOCK, pcm(0, 4 * BLOCK), [])


def test_an_event_says_how_far_the_audio_was_durable(tmp_path: Path) -> None:
    folder = record_session(tmp_path, [*audio(0, 2 * BLOCK), event(1)])
    (folder / "mark").unlink()
    for file in folder.glob("*.raw"):
        file.write_bytes(file.read_bytes()[:RECORD])
    with pytest.raises(DataLoss, match=f"frames {BLOCK} to {2 * BLOCK} "):
        reopened(tmp_path)


@pytest.fixture
def told_events(tmp_path: Path) -> tuple[Path, bytes, list[int]]:
    """A log of three commits of an event each, closed as by a kill: its path, bytes, and where commits end."""
    ends = list[int]()
    with running(tmp_path / "journal") as journal:
        journal.create(facts())
        for number in (1, 2, 3):
            journal.append("talk", [event(number)], told := Told())
            told.durable(0, number)
            ends.append((tmp_path / "journal/sessions/talk/events.log").stat().st_size)
        shutil.copytree(tmp_path / "journal", tmp_path / "killed")
    path = tmp_path / "killed/sessions/talk/events.log"
    return path, path.read_bytes(), ends


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("has_mark", [True, False])
def test_a_damaged_event_is_a_loss(told_events: tuple[Path, bytes, list[int]], number: int, has_mark: bool) -> None:
    path, data, ends = told_events
    if not has_mark:
        path.with_name("events.mark").unlink()
    path.write_bytes(data[: ends[number - 1] - 1] + b"\0" + data[ends[number - 1] :])
    if number == 3 and not has_mark:  # what a power cut leaves of a commit that nobody was told of
        assert reopened(path.parents[2])[2] == [event(1), event(2)]
        return
    with pytest.raises(DataLoss, match=f"events {number} to {number + 1} "):
        reopened(path.parents[2])


def test_a_missing_event_is_a_loss(told_events: tuple[Path, bytes, list[int]]) -> None:
    path, data, ends = told_events
    path.write_bytes(data[: ends[0]] + data[ends[1] :])
    with pytest.raises(DataLoss, match="events 2 to 3 "):
        reopened(path.parents[2])


def test_events_of_a_commit_cut_at_any_byte_count_all_or_not_at_all(told_events: tuple[Path, bytes, list[int]]) -> None:
    path, data, ends = told_events
    for size in range(ends[-1]):
        whole = sum(end <= size for end in ends)
        content = scan(data[:size])
        assert (len(content.items), content.size) == (whole, [0, *ends][whole])
    torn = encode_commit(0, 4, [event(4).message, event(5).message])[:-1]
    path.write_bytes(data + torn)
    with running(path.parents[2]) as journal:
        assert journal.recover("talk").events == [event(1), event(2), event(3)]
        assert path.read_bytes() == data
        journal.append("talk", [event(4)], told := Told())
        told.durable(0, 4)
    assert len(reopened(path.parents[2])[2]) == 4


def test_whole_events_that_were_not_synced_are_written_again_before_they_count(
    told_events: tuple[Path, bytes, list[int]],
) -> None:
    path, data, _ = told_events
    inode = path.stat().st_ino
    with running(path.parents[2]) as journal:
        assert len(journal.recover("talk").events) == 3
        assert path.read_bytes() == data and path.stat().st_ino != inode


def test_a_recovery_beside_a_writer_changes_nothing(talk: Path) -> None:
    acknowledged(talk, 2 * BLOCK)
    before = {path: path.read_bytes() for path in talk.iterdir()}
    reader = Journal(config(talk.parents[1]))
    assert reader.recover("talk").durable == 4 * BLOCK
    reader.stop()
    assert {path: path.read_bytes() for path in talk.iterdir()} == before


def test_frames_that_were_never_there_are_not_invented(tmp_path: Path) -> None:
    folder = record_session(tmp_path, audio(0, BLOCK))
    with next(folder.glob("*.raw")).open("ab") as file:
        file.write(encode(AudioRecord(5 * BLOCK, b"xx", 1)))
    assert reopened(tmp_path)[0] == BLOCK


@pytest.mark.parametrize("session", ["absent", "../talk", "", "a/b", "..", "x" * 65, "nul\0"])
def test_no_other_id_leads_anywhere(tmp_path: Path, session: str) -> None:
    with running(tmp_path) as journal:
        for method in (journal.recover, journal.delete, journal.audio):
            with pytest.raises(NoSession):
                method(session)
        assert journal.facts(session) is None
        if session != "absent":
            with pytest.raises(NoSession):
                journal.create(facts(session))
