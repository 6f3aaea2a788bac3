"""Captions of sounds are counted: right, wrong, and where there is no sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3stream.engine.captioning import NamedSound
from af3stream.engine.scripted import ScriptedEngine, ScriptedSounds
from training.sound_captions import Named, Piece, figures, named, speech

SECOND = np.full(16_000, 0.1, np.float32)


def heard(piece: Piece, reply: str, confidence: float = 0.9) -> Named:
    return Named(piece, NamedSound(reply, confidence))


def test_recall_wrong_names_and_false_captions_are_counted_at_a_threshold() -> None:
    bell = Piece("takes", "bell", SECOND, ("bell",))
    talk = Piece("speech", "talk", SECOND)
    results = [
        heard(bell, "The sound of a bell."),
        heard(bell, "The sound of rain."),
        heard(bell, "The sound of a bell.", 0.4),
        heard(bell, "Somebody is speaking."),
        heard(talk, "The sound of wind."),
        heard(talk, "Somebody is speaking."),
        heard(Piece("noise", "noise", SECOND), "Nothing is heard."),
    ]
    found = figures(results, 0.5)
    assert (found["recall, takes"], found["wrong names, takes"]) == (0.25, 0.25)
    assert found["false captions an hour of speech"] == pytest.approx(1 / (2 / 3_600))
    assert found["noise with a caption"] == 0
    assert figures(results, 0.3)["recall, takes"] == 0.5


def test_recordings_of_speech_give_pieces_in_turn_up_to_a_length(tmp_path: Path) -> None:
    paths = [tmp_path / "one.wav", tmp_path / "two.wav"]
    for path in paths:
        soundfile.write(path, np.tile(SECOND, 30), 16_000)
    pieces = [*speech(paths, 20.0, seed=1)]
    assert [piece.name for piece in pieces[:4]] == ["one", "two", "one", "two"]
    assert 20 <= sum(len(piece.samples) for piece in pieces) / 16_000 < 28
    assert all(3 <= len(piece.samples) / 16_000 <= 8 and not piece.any_of for piece in pieces)


def test_every_piece_is_asked_about_by_itself() -> None:
    engine = ScriptedEngine()
    engine.sounds = ScriptedSounds(NamedSound("A bell.", 0.8))
    piece = Piece("takes", "bell", SECOND, ("bell",))
    assert [*named(engine, [piece])] == [Named(piece, NamedSound("A bell.", 0.8))]
