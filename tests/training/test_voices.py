"""Voices that are drawn: each its own, and one that espeak-ng speaks with where it is installed."""

from __future__ import annotations

import re
import shutil
from random import Random

import numpy as np
import pytest

from training import voices

NUMBERS = {  # after a word
    **{"pitch": 2, "flutter": 1, "roughness": 1, "voicing": 1},
    **{"consonants": 1, "tone": 6, "klatt": 1, "stressAdd": 8},
}


def test_a_drawn_variant_is_like_no_other_and_says_what_espeak_reads() -> None:
    drawn = [voices.variant(Random(seed)) for seed in range(60)]
    assert len({*drawn}) == 60
    for variant in drawn:
        named, *lines = variant.splitlines()[1:]
        assert named == f"name {voices.DRAWN}"
        assert [int(line.split()[1]) for line in lines if line.startswith("formant")] == [*range(9)]
        for line in lines:
            word, *numbers = line.split()
            assert all(re.fullmatch(r"-?\d+", number) for number in numbers)
            assert len(numbers) == NUMBERS.get(word, 4)
    kinds = {line.split()[0] for variant in drawn for line in variant.splitlines()}
    assert kinds >= NUMBERS.keys(), "all that a variant may say is said in some"


def test_the_same_draw_is_the_same_voice() -> None:
    assert voices.variant(Random(7)) == voices.variant(Random(7))


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_speaks_with_it() -> None:
    voice = voices.Voice("espeak", voices.DRAWN, 1, 50)
    spoken = [voices.speak(voice, "Rain on the roof.", Random(seed)) for seed in (1, 1, 2)]
    assert all(len(samples) > 8_000 and np.abs(samples).max() > 0.05 for samples in spoken)
    assert np.array_equal(spoken[0], spoken[1])
    assert not np.array_equal(spoken[0][:8_000], spoken[2][:8_000])
