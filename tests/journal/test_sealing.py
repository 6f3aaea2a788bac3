"""Closed segments become FLAC, or zlib, that gives every byte back; until that is proved, the raw file stays."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import DataLoss
from af3stream.journal import sealing
from af3stream.journal.records import GapRecord, Record
from af3stream.journal.store import Store
from tests.journal.scenes import (
    SPEECH,
    Told,
    audio,
    facts,
    failing,
    joined,
    opened_store,
    pcm,
    reopened,
    running,
    until,
)

FORMATS = [
    AudioFormat("pcm_s16le", 8_000, 1),
    AudioFormat("pcm_s16le", 48_000, 2),
    AudioFormat("pcm_s16le", 11_027, 1),  # a rate that no table of FLAC's holds
    AudioFormat("pcm_f32le", 16_000, 2),
    AudioFormat("mulaw", 8_000, 1),
]


def seal(store: Store, records: list[Record]) -> Path:
    """Append, commit, finish and seal the session `talk`; returns its folder."""
    store.append("talk", records, Told())
    store.commit(now=0.0)
    store.finish("talk", now=0.0)
    while store.step(now=0.0):
        pass
    return store._folder / "sessions/talk"


@pytest.mark.parametrize("audio_format", FORMATS, ids=lambda f: f"{f.format} {f.rate} {f.channels}")
def test_every_byte_and_gap_comes_back(tmp_path: Path, audio_format: AudioFormat) -> None:
    rate = audio_format.rate
    records: list[Record] = [
        *audio(0, 2 * rate, audio_format, rate // 50),
        GapRecord(2 * rate, rate // 3),
        *audio(2 * rate + rate // 3, 4 * rate, audio_format, rate // 50),
        GapRecord(4 * rate, 7),
    ]
    with running(tmp_path) as journal:
        journal.create(facts("talk", audio_format))
        folder = seal(journal._store, records)
        assert [path.suffix for path in sorted(folder.glob("0*"))] == [
            ".flac" if audio_format.format == "pcm_s16le" else ".zlib"
        ]
        heard = list(journal.recover("talk").audio)
    assert joined(heard, audio_format) == joined(records, audio_format)  # type: ignore[arg-type]
    gaps = [[record for record in several if isinstance(record, GapRecord)] for several in (heard, records)]
    assert gaps[0] == gaps[1]


def test_a_sealed_file_is_plain_flac(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        folder = seal(store, audio(0, 8_000))
        samples, rate = soundfile.read(folder / "000001.flac", dtype="int16")
        assert (samples.tobytes(), rate) == (pcm(0, 8_000), SPEECH.rate)
        assert (folder / "000001.flac").stat().st_size < 12_000


def test_only_gaps_are_sealed_too(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        seal(store, [GapRecord(0, 480_000)])
    with running(tmp_path) as journal:
        assert list(journal.recover("talk").audio) == [GapRecord(0, 480_000)]


def test_a_running_session_is_sealed_behind_its_back(tmp_path: Path) -> None:
    with running(tmp_path, segment_s=0.5) as journal:
        journal.create(facts())
        told = Told()
        for at in range(0, 24_000, 800):
            journal.append("talk", audio(at, at + 800), told)
            told.durable(at + 800)
        folder = tmp_path / "sessions/talk"
        until(lambda: len(list(folder.glob("*.flac"))) == 6 and not list(folder.glob("00000[1-6]*.raw")))
        assert len(list(folder.glob("*.flac"))) == 6 and not list(folder.glob("*.staged"))
        assert joined(journal.recover("talk").audio) == pcm(0, 24_000)
    assert reopened(tmp_path) == (24_000, pcm(0, 24_000), [])


@pytest.mark.parametrize("label", ["seal-encoded", "seal-staged", "seal-verified", "seal-revealed", "seal-recorded"])
def test_a_disk_that_refuses_a_seal_is_asked_again_later(tmp_path: Path, label: str) -> None:
    with opened_store(tmp_path) as store:
        with failing(label, OSError(errno.ENOSPC, "full")):
            folder = seal(store, audio(0, 8_000))
        assert len(list(folder.glob("*.raw"))) == 1
        while store.step(now=sealing.AGAIN_AFTER_S):
            pass
        assert not list(folder.glob("*.raw"))
    assert reopened(tmp_path)[1] == pcm(0, 8_000)


@pytest.mark.parametrize("wrong", [b"\0" * 1_000, b""], ids=["other samples", "nothing"])
def test_what_does_not_decode_to_the_same_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wrong: bytes
) -> None:
    monkeypatch.setattr(sealing, "decode", lambda *_: iter([wrong] if wrong else []))
    with opened_store(tmp_path) as store:
        folder = seal(store, audio(0, 8_000))
        assert [path.suffix for path in folder.glob("0*")] == [".raw"]
    assert "stays raw" in caplog.text
    monkeypatch.undo()
    assert reopened(tmp_path)[1] == pcm(0, 8_000)


def test_a_raw_file_that_rots_before_it_is_sealed_is_not_sealed(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        store.append("talk", audio(0, 8_000), Told())
        store.commit(now=0.0)
        (raw,) = (tmp_path / "sessions/talk").glob("*.raw")
        data = bytearray(raw.read_bytes())
        data[5_000] ^= 1
        raw.write_bytes(data)
        store.finish("talk", now=0.0)
        while store.step(now=0.0):
            pass
        assert raw.exists()
    with pytest.raises(DataLoss):
        reopened(tmp_path)


def test_damage_anywhere_in_a_sealed_file_is_named(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        path = seal(store, audio(0, 8_000)) / "000001.flac"
    data = path.read_bytes()
    heard = pcm(0, 8_000)
    for byte in range(0, len(data), 211):
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 0x04]) + data[byte + 1 :])
        try:
            assert reopened(tmp_path)[1] == heard, "a bit that no sample depends on"
        except DataLoss as loss:
            assert (loss.start, loss.end) == (0, 8_000)
    for gone in (path.write_bytes, lambda _: path.unlink()):
        gone(data[:-40])
        with pytest.raises(DataLoss, match="frames 0 to 8000 "):
            reopened(tmp_path)


def test_a_whole_file_of_other_samples_is_damage_too(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        path = seal(store, audio(0, 8_000)) / "000001.flac"
    soundfile.write(path, np.frombuffer(pcm(8_000, 16_000), "<i2"), SPEECH.rate)
    with pytest.raises(DataLoss, match="frames 0 to 8000 "):
        reopened(tmp_path)


def test_a_session_that_comes_back_before_it_is_sealed_is_sealed_once(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        for end in (8_000, 16_000):
            store.append("talk", audio(end - 8_000, end), Told())
            store.commit(now=0.0)
            store.step(now=0.0)
            store.release("talk")
            row = store._catalog.row("talk")
            assert row
            store.open(row, 0)
        while store.step(now=0.0):
            pass
        assert sorted(path.name for path in (tmp_path / "sessions/talk").iterdir()) == [
            "000001.flac", "000002.flac", "facts.json", "mark", "segments.log", "segments.mark"
        ]  # fmt: skip
    assert reopened(tmp_path)[1] == pcm(0, 16_000)


@pytest.mark.parametrize("steps", [2, 5], ids=["while it encodes", "while it reads again"])
def test_a_journal_that_is_closed_leaves_no_file_of_its_seal_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    files = list[soundfile.SoundFile]()

    class Kept(soundfile.SoundFile):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            files.append(self)

    monkeypatch.setattr(soundfile, "SoundFile", Kept)
    with opened_store(tmp_path) as store:
        store.append("talk", audio(0, 16_000), Told())
        store.commit(now=0.0)
        store.release("talk")
        for _ in range(steps):
            store.step(now=0.0)
        assert not files[-1].closed and files[-1].mode == ("w" if steps == 2 else "r")
    assert all(file.closed for file in files)
    assert reopened(tmp_path)[1] == pcm(0, 16_000)


def test_a_server_that_starts_again_seals_what_was_left(tmp_path: Path) -> None:
    with opened_store(tmp_path, segment_s=0.5) as store:
        for at in range(0, 12_000, 4_000):
            store.append("talk", audio(at, at + 4_000), Told())
            store.commit(now=0.0)
    folder = tmp_path / "sessions/talk"
    assert len(list(folder.glob("*.raw"))) == 3
    (folder / "000001.flac.staged").write_bytes(b"half")
    (tmp_path / "sessions/orphan").mkdir()
    with running(tmp_path):
        until(lambda: len(list(folder.glob("*.raw"))) == 1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "000001.flac",
        "000002.flac",
        "000003-8000.raw",
        "facts.json",
        "mark",
        "segments.log",
        "segments.mark",
    ]
    assert not (tmp_path / "sessions/orphan").exists()
    assert reopened(tmp_path)[1] == pcm(0, 12_000)
