"""What languages and vocabularies are measured on: how recordings are joined, and what counts as wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from training import languages, vocabulary
from training.exams import Recording

RATE = 16_000


def recordings(folder: Path, code: str, count: int) -> list[Recording]:
    """Recordings of a second each."""
    made = []
    for number in range(count):
        path = folder / f"{code}-{number}.wav"
        soundfile.write(path, np.full(RATE, 0.1), RATE)
        made.append(Recording(path, f"{code}{number}", code))
    return made


def test_words_are_compared_without_accents_case_and_punctuation() -> None:
    assert languages.bare("Échec à l'ouverture: «numéro»") == languages.bare("echec a l’ouverture numero")


def test_a_session_is_eight_recordings_with_pauses(tmp_path: Path) -> None:
    first, rest = languages.sessions(recordings(tmp_path, "es", 11), tmp_path)
    assert (first.source, first.text) == ("es", "es0 es1 es2 es3 es4 es5 es6 es7")
    assert rest.text == "es8 es9 es10"
    assert soundfile.info(first.path).duration == 8 * (1 + languages.PAUSE_S)


def test_a_changing_session_goes_to_another_language_and_back(tmp_path: Path) -> None:
    spanish, french = languages.changing([recordings(tmp_path, code, 12) for code in ("es", "fr")], tmp_path)
    assert spanish.source == "changing"
    assert spanish.text == "es0 es1 es2 es3 fr4 fr5 fr6 fr7 es8 es9 es10 es11"
    assert french.text.startswith("fr0") and french.text.endswith("fr11")
    (session,) = languages.sessions(recordings(tmp_path, "es", 8), tmp_path)
    assert session.path not in (spanish.path, french.path)


@pytest.mark.parametrize(
    ("heard", "counted"),
    [
        ("Ugarte asked whether Zentavo is ready.", (0, 0, 4)),
        ("You got he asked whether Zentavo is ready.", (1, 2, 4)),
        ("Ugarte asked weather Cent Avo is ready.", (1, 2, 4)),
    ],
)
def test_a_missed_term_is_not_an_error_in_the_other_words(heard: str, counted: tuple[int, int, int]) -> None:
    clip = vocabulary.Clip(Path("a.wav"), "Ugarte asked whether Zentavo is ready.", ("Ugarte", "Zentavo"))
    assert vocabulary.compare(clip, heard) == counted
