"""Recordings of people: what is read from three games' files, and which words are believed."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.whisper import Decoded
from training import people
from training.writer import chunks

SECOND = 0.5 * np.sin(2 * np.pi * 300 * np.arange(people.RATE) / people.RATE)


@pytest.fixture(autouse=True)
def games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(people, "GAMES", tmp_path)
    return tmp_path


def write_sky(games: Path, *files: tuple[int, bytes]) -> None:
    """A Beneath a Steel Sky of these numbered files, every place a multiple of sixteen."""
    folder = games / "beneath-a-steel-sky"
    folder.mkdir()
    index, data = len(files).to_bytes(4, "little"), bytearray(32)
    for number, content in files:
        place = len(data) // 16 | 1 << 23
        data += content + bytes(-len(content) % 16)
        flags = 1 << 22
        index += number.to_bytes(2, "little") + place.to_bytes(3, "little")
        index += (len(content) | flags).to_bytes(3, "little")
    (folder / "sky.dnr").write_bytes(index)
    (folder / "sky.dsk").write_bytes(data)


def write_queen(games: Path, *files: tuple[bytes, bytes]) -> None:
    """A Flight of the Amazon Queen of these named files."""
    folder = games / "flight-of-the-amazon-queen"
    folder.mkdir()
    place, index, data = 15 + 21 * len(files), b"", b""
    for name, content in files:
        index += struct.pack(">12sxII", name, place + len(data), len(content))
        data += content
    (folder / "queen.1c").write_bytes(b"QTBLCEM10\0\0\0\1" + struct.pack(">H", len(files)) + index + data)


def mp3(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, people.RATE, format="MP3")
    return file.getvalue()


def test_the_speech_of_steel_sky(games: Path) -> None:
    said = bytes(22) + (128 + 127 * SECOND).astype(np.uint8).tobytes()
    write_sky(games, (60_100, b"a picture"), (50_007, said), (59_999, bytes(22)))
    recordings = people.steel_sky()
    assert [recording.size for recording in recordings] == [len(said) - 22, 0]
    samples = people.heard(recordings[0])
    assert abs(len(samples) - SAMPLE_RATE) < 100
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.02)
    assert not len(people.heard(recordings[1]))


def test_the_speech_of_the_amazon_queen(games: Path) -> None:
    write_queen(games, (b"A1.PCX", b"a picture"), (b"020001P2.SB", mp3(SECOND)), (b"020002J1.SB", b"torn"))
    recordings = people.amazon_queen()
    assert len(recordings) == 2
    assert abs(len(people.heard(recordings[0])) - SAMPLE_RATE) < 0.2 * SAMPLE_RATE
    assert not len(people.heard(recordings[1]))


def test_the_speech_of_drascula(games: Path) -> None:
    (games / "drascula/en").mkdir(parents=True)
    (games / "drascula/en/7.ALS").write_bytes((128 + 127 * SECOND).astype(np.uint8).tobytes())
    (games / "drascula/en/7.ALG").write_bytes(b"a picture")
    (recording,) = people.drascula()
    assert abs(len(people.heard(recording)) - SAMPLE_RATE) < 100


@pytest.mark.parametrize(
    "text",
    [
        "Well, it's \u201ctrue\u201d",
        "(laughs)",
        "...",
        "",
        "\u266a La la \u266a",
        "I see you, I see you, I see",
        "N" + 40 * "o",
    ],
)
def test_what_is_not_believed(text: str) -> None:
    assert people.believed(Decoded(text, -0.1, 0.0, 9)) == ""


def test_what_is_believed() -> None:
    text = "I don\u2019t think so, Joe."
    assert people.believed(Decoded(text, -0.1, 0.0, 9)) == "I don't think so, Joe."
    assert not people.believed(Decoded(text, -0.9, 0.0, 9))
    assert not people.believed(Decoded(text, -0.1, 0.9, 9))


def test_no_recording_is_in_two_shards() -> None:
    parts = chunks(range(10), 4)
    assert [list(part) for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
