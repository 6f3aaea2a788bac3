"""Splices at known times, and the words of captions that are compared with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3stream.protocol.messages import Word
from training import word_times
from training.exams import Recording
from training.word_times import NOISE, Splice, found

RATE = 16_000


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    """Twelve recordings of half a second of sound, with silence around it."""
    silence, sound = np.zeros(RATE // 4), 0.3 * np.sin(np.arange(RATE // 2))
    made = []
    for number in range(12):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.concatenate([silence, sound, silence]), RATE)
        made.append(Recording(path, f"Word{number} more.", "words"))
    monkeypatch.setattr(word_times, "single_words", lambda: made)
    return made


def test_a_splice_knows_where_each_recording_begins_to_sound(recordings: list[Recording]) -> None:
    [splice] = word_times.splices("words", 1, seed=1)
    assert len(splice.starts) == len(recordings)
    for place, start in splice.starts:
        at = round(start * RATE)
        assert splice.text.split()[place].startswith("word")
        assert (
            np.abs(splice.samples[at - 160 : at - 10]).max() < 6 * NOISE < np.abs(splice.samples[at : at + 160]).max()
        )


def test_words_are_found_by_what_is_said_around_them() -> None:
    splice = Splice(np.zeros(0, np.float32), "press one now press two now goodbye", ((0, 1.0), (3, 3.0), (6, 5.0)))
    heard = [("Press", 1.1), ("1", 1.3), ("now.", 1.5), ("Press", 2.8), ("2", 3.3), ("now.", 3.6)]
    late = [
        (each.text, round(each.late_s, 3)) for each in found(splice, [Word(text, at, at, 1.0) for text, at in heard])
    ]
    assert late == [("press", 0.1), ("press", -0.2)]
