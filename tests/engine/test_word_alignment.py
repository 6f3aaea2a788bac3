"""Word times: pieces of an alignment become words, pauses are taken off, and nothing is computed unasked."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3stream.config import CaptionsConfig, Config
from af3stream.engine import factory
from af3stream.engine.captioning import CaptionOptions, CaptionRequest, Hypothesis, Passes, Samples, TimedWord
from af3stream.engine.counters import Counters
from af3stream.engine.scripted import ScriptedCaptioner
from af3stream.engine.whisper import Decoded
from af3stream.engine.word_alignment import AlignedCaptioner, Piece, trimmed, words_of
from tests.captioned import captioned
from tests.engine.test_whisper import RAIN, Scripted

RATE = 16_000
WORDS = CaptionOptions(words=True)


def pieces(*texts: str) -> list[Piece]:
    """Pieces of a tenth of a second each."""
    return [Piece(text, i * 1_600, (i + 1) * 1_600, 0.5) for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        pytest.param([" Good", " morning", "."], ["Good", "morning."], id="a full stop"),
        pytest.param([" He", "'s", " well", "-known", ","], ["He's", "well-known,"], id="no space, no new word"),
        pytest.param([" ¿", "Qué", " hora", "?"], ["¿Qué", "hora?"], id="opening marks"),
        pytest.param([" Il", " dit", " «", " Bonjour", " »", " !"], ["Il", "dit", "« Bonjour » !"], id="set apart"),
        pytest.param([" yes", " -", " no"], ["yes -", "no"], id="a dash"),
        pytest.param([" 3", ".", "5", " %"], ["3.5 %"], id="numbers"),
        pytest.param(["今", "日", "は", "。"], ["今", "日", "は。"], id="Japanese"),
        pytest.param(["我", "用", " Open", "AI", "。"], ["我", "用", "OpenAI。"], id="Latin among Chinese"),
        pytest.param(["สวัส", "ดี"], ["สวัส", "ดี"], id="Thai"),
        pytest.param(["...", " And", " then"], ["... And", "then"], id="marks before the first word"),
        pytest.param(["."], [], id="no words"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_pieces_become_the_words_that_are_displayed(texts: list[str], words: list[str]) -> None:
    assert [word.text for word in words_of(pieces(*texts))] == words


def test_a_word_begins_with_its_first_letters_and_is_as_probable_as_its_tokens() -> None:
    opening, first, second = (
        Piece(" ¿", 0, 1_600, 0.1),
        Piece("Qué", 1_600, 3_200, 0.4, 3),
        Piece("?", 3_200, 4_800, 0.1),
    )
    assert words_of([opening, first, second]) == [TimedWord("¿Qué?", 1_600, 4_800, pytest.approx(0.4))]


@given(st.lists(st.text(alphabet=" .,¿«»!?-'aé1今は", min_size=1, max_size=4), max_size=12))
def test_the_words_together_are_the_text(texts: list[str]) -> None:
    words = words_of(pieces(*texts))
    text = "".join("".join(texts).split())
    assert "".join("".join(word.text.split()) for word in words) == (text if any(map(str.isalnum, text)) else "")
    assert all(early.start <= early.end <= late.start for early, late in pairwise(words))


def spoken(*stretches: tuple[float, float], seconds: float, noise: float = 0.001) -> Samples:
    """Noise as loud as speech in these stretches of seconds, and little elsewhere."""
    rng = np.random.default_rng(7)
    samples = rng.standard_normal(round(seconds * RATE)) * noise
    for start, end in stretches:
        samples[round(start * RATE) : round(end * RATE)] += 0.2 * rng.standard_normal(round((end - start) * RATE))
    return samples.astype(np.float32)


def test_pauses_are_taken_off_both_ends_of_a_word() -> None:
    samples = spoken((0.3, 0.8), (1.5, 2.0), seconds=2.5)
    words = [TimedWord("one", 0, round(1.2 * RATE), 0.9), TimedWord("two", round(1.2 * RATE), round(2.5 * RATE), 0.9)]
    assert [(word.start / RATE, word.end / RATE) for word in trimmed(words, samples)] == [(0.3, 0.8), (1.5, 2.0)]


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_a_word_stays_where_it_is_in_noise_that_hides_its_pauses(noise: float) -> None:
    samples = spoken((0.3, 0.8), seconds=1.0, noise=noise)
    words = [TimedWord("one", 1_600, 14_400, 0.9)]
    assert [*trimmed(words, samples)] == words


@pytest.mark.parametrize("samples", [0, 100, 16_000])
def test_a_word_without_any_sound_stays_where_it_is(samples: int) -> None:
    words = [TimedWord("one", 0, samples, 0.9)]
    assert [*trimmed(words, np.zeros(samples, np.float32))] == words


# ---- who asks for times, and what it costs ---------------------------------------------------------------------------


class Aligned(Scripted):
    """A Whisper captioner over scripted decodes, and a scripted alignment of them."""

    def __init__(self, *decodes: Decoded) -> None:
        super().__init__(*decodes)
        self.counters = Counters()
        self.translates = False
        self._aligner: Any = self

    def align(self, encoded: Any, tokens: Any, language: str, samples: Samples) -> tuple[TimedWord, ...]:  # type: ignore[override]
        self.counters.alignments += 1
        return (TimedWord("Rain", 0, len(samples), 0.9),)


def heard(captioner: Aligned, *, final: bool, options: CaptionOptions) -> Hypothesis:
    return captioned(captioner, np.zeros(RATE, np.float32), final=final, max_tokens=9, options=options)


def test_a_final_has_word_times_where_they_are_asked_for_over_the_same_encoding() -> None:
    captioner = Aligned(RAIN)
    assert heard(captioner, final=True, options=WORDS).words == (TimedWord("Rain", 0, RATE, 0.9),)
    assert (captioner.counters.alignments, len(captioner.padded_s)) == (1, 1)


@pytest.mark.parametrize(
    ("decode", "final", "words"),
    [
        pytest.param(RAIN, True, False, id="nobody asks"),
        pytest.param(RAIN, False, True, id="an interim"),
        pytest.param(Decoded("Rain.", -2.0, 0.9, 3), True, True, id="no words"),
    ],
)
def test_nothing_is_aligned_otherwise(decode: Decoded, final: bool, words: bool) -> None:
    captioner = Aligned(decode)
    assert heard(captioner, final=final, options=CaptionOptions(words=words)).words == ()
    assert captioner.counters.alignments == 0


class Halves:
    """Gives each word of a text an equal share."""

    def align(self, samples: Samples, text: str) -> Passes[tuple[TimedWord, ...]]:
        words = text.split()
        share = len(samples) // len(words)
        yield None
        return tuple(TimedWord(word, i * share, (i + 1) * share, 1.0) for i, word in enumerate(words))


class Plain(ScriptedCaptioner):
    """Says one thing, and knows no times."""

    times_words = False

    def __init__(self, counters: Counters, text: str = "Good morning.") -> None:
        super().__init__(counters)
        self.text = text

    def hear(self, request: CaptionRequest) -> Hypothesis:
        return Hypothesis(self.text)


def test_another_captioner_has_times_by_an_aligner_that_is_loaded_when_it_is_needed() -> None:
    loaded = []
    captioner = AlignedCaptioner(Plain(Counters()), lambda: loaded.append(1) or Halves())  # type: ignore[func-returns-value]
    samples = np.zeros(RATE, np.float32)
    for final, options in ((True, CaptionOptions()), (False, WORDS)):
        assert captioned(captioner, samples, final=final, max_tokens=9, options=options).words == ()
    assert not loaded and captioner.times_words
    for _ in range(2):
        words = captioned(captioner, samples, max_tokens=9, options=WORDS).words
        assert words == (TimedWord("Good", 0, 8_000, 1.0), TimedWord("morning.", 8_000, RATE, 1.0))
    assert loaded == [1]


@pytest.mark.parametrize(("beside", "times_words"), [(Path("whisper"), True), (None, False)])
def test_af3_as_captioner_has_times_where_a_whisper_checkpoint_is_beside_it(
    beside: Path | None, times_words: bool
) -> None:
    checkpoint: Any = SimpleNamespace(captioner=beside)
    engine: Any = SimpleNamespace(captioner=Plain(Counters()), counters=Counters())
    config = Config(captions=CaptionsConfig(captioner="af3"))
    chosen = factory._captioner(checkpoint, config, engine) or engine.captioner
    assert chosen.times_words == times_words  # nothing is loaded, for there is no such folder
