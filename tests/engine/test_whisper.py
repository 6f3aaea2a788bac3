"""The Whisper captioner over scripted decodes; `tests/e2e/test_silence.py` has the real model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from af3stream.engine.contract import Hypothesis, Samples
from af3stream.engine.whisper import LOOP_TOKENS, Decoded, WhisperCaptioner

RATE = 16_000
RAIN = Decoded("Rain on the roof.", score=-0.3, silence=0.1, tokens=5)
LOOP = Decoded("rain on the roof, " * 20, score=-0.1, silence=0.1, tokens=100)
FAST = Decoded("Rain on the roof, and on the street as well.", score=-0.3, silence=0.1, tokens=12)


class Scripted(WhisperCaptioner):
    """A captioner whose decodes give these words, one after another.

    Attributes:
        padded_s: seconds of each input that was encoded.
        options: the library's options of each decode.
    """

    def __init__(self, *decodes: Decoded) -> None:
        self._decodes, self._beam = iter(decodes), 5
        self.padded_s: list[float] = []
        self.options: list[dict[str, Any]] = []

    def final(self, seconds: float = 10.0) -> Hypothesis:
        """The final caption of an utterance of this length."""
        return self.caption(np.zeros(round(seconds * RATE), np.float32), None, final=True, max_tokens=99)

    def interim(self, seconds: float = 10.0) -> Hypothesis:
        """The interim caption of an utterance of this length."""
        return self.caption(np.zeros(round(seconds * RATE), np.float32), None, final=False, max_tokens=99)

    def _encoded(self, samples: Samples, padded_s: float) -> None:
        self.padded_s.append(padded_s)

    def _prompt(self, encoded: None) -> list[int]:
        return [1]

    def _write(self, encoded: None, prompt: list[int], max_tokens: int, **options: Any) -> Decoded:
        self.options.append(options)
        return next(self._decodes)


def test_a_final_caption_is_one_beam_search() -> None:
    captioner = Scripted(RAIN)
    assert captioner.final() == Hypothesis(RAIN.text, silence=RAIN.silence)
    assert captioner.options == [{"beam_size": 5}]


def test_an_interim_caption_is_one_greedy_decode_that_repeats_no_phrase() -> None:
    captioner = Scripted(RAIN)
    assert captioner.interim().text == RAIN.text
    assert captioner.options == [{"beam_size": 1, "no_repeat_ngram_size": LOOP_TOKENS}]


@pytest.mark.parametrize(("seconds", "padded_s"), [(1, 15), (9, 15), (12, 17), (28, 30)])
def test_a_final_is_padded_to_little_more_than_its_utterance(seconds: float, padded_s: float) -> None:
    captioner = Scripted(RAIN)
    captioner.final(seconds)
    assert captioner.padded_s == [padded_s]


@pytest.mark.parametrize(("seconds", "padded_s"), [(1, 5), (8, 10), (29, 30)])
def test_an_interim_is_padded_less(seconds: float, padded_s: float) -> None:
    captioner = Scripted(RAIN)
    captioner.interim(seconds)
    assert captioner.padded_s == [padded_s]


@pytest.mark.parametrize("kind", ["final", "interim"])
@pytest.mark.parametrize(
    ("score", "silence", "seconds", "said"),
    [
        pytest.param(-0.9, 0.9, 5, RAIN.text, id="likely words, though the model takes them for silence"),
        pytest.param(-1.1, 0.5, 5, RAIN.text, id="unlikely words of somebody who speaks"),
        pytest.param(-1.1, 0.7, 5, "", id="unlikely words over silence"),
        pytest.param(-1.1, 0.5, 6, "", id="unlikely words, and fewer than anybody says in the time"),
        pytest.param(-0.9, 0.5, 6, RAIN.text, id="likely words, as few"),
        pytest.param(-1.7, 0.0, 5, "", id="words as unlikely as over noise"),
    ],
)
def test_a_caption_has_no_words_if_nobody_speaks(
    kind: str, score: float, silence: float, seconds: float, said: str
) -> None:
    captioner = Scripted(Decoded(RAIN.text, score, silence, tokens=5))
    caption = captioner.final(seconds) if kind == "final" else captioner.interim(seconds)
    assert caption == Hypothesis(said, silence=silence)


@pytest.mark.parametrize(("written", "said"), [(". .", ""), ("♪♪", ""), ("…", ""), ("7.", "7."), ("雨。", "雨。")])
def test_a_caption_has_a_letter_or_a_digit(written: str, said: str) -> None:
    assert Scripted(Decoded(written, -0.2, 0.0, 2)).final().text == said


def test_a_final_that_loops_is_searched_once_more_without_repeats_over_the_same_encoding() -> None:
    captioner = Scripted(LOOP, RAIN)
    assert captioner.final().text == RAIN.text
    assert captioner.options == [{"beam_size": 5}, {"beam_size": 5, "no_repeat_ngram_size": LOOP_TOKENS}]
    assert len(captioner.padded_s) == 1


def test_a_final_that_loops_again_has_no_words() -> None:
    assert Scripted(LOOP, LOOP).final() == Hypothesis("")


def test_an_interim_that_loops_has_no_words_and_is_not_decoded_again() -> None:
    captioner = Scripted(LOOP, RAIN)
    assert captioner.interim() == Hypothesis("")
    assert len(captioner.options) == 1


def test_more_words_than_anybody_can_say_in_the_time_are_a_loop() -> None:
    assert Scripted(FAST).final(2.0).text == FAST.text
    assert Scripted(FAST, RAIN).final(1.0).text == RAIN.text
    assert Scripted(FAST).interim(1.0) == Hypothesis("")
