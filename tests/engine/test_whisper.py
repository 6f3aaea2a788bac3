"""Which of Whisper's hypotheses is written, over scripted ones; `tests/e2e/test_silence.py` has the real model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from af3stream.engine.contract import Samples
from af3stream.engine.whisper import FULL_S, SLOWER, Ears, Heard, Second, WhisperCaptioner

SECOND = 16_000  # samples


class Written(WhisperCaptioner):
    """What a final caption is, where greedy decoding and a beam find these.

    Args:
        slower: what a beam finds in the slower utterance.
        second: who else hears it.
    """

    def __init__(
        self,
        greedy: Heard,
        found: Sequence[Heard],
        slower: Sequence[Heard] = (),
        second: Second | None = None,
    ) -> None:
        self._greedy, self._there, self._slower, self._second = greedy, [*found], [*slower], second
        self._beam = max(2, len(found))
        self.heard_s: list[float] = []
        self.padded_s: list[float] = []
        self.prompted = 0

    def __call__(self, seconds: float = 10) -> str:
        self._utterance = round(seconds * SECOND)
        return self.caption(np.zeros(self._utterance, np.float32), None, final=True, max_tokens=99).text

    def _encoded(self, samples: Samples, padded_s: float) -> int:
        assert len(samples) <= padded_s * SECOND, "an utterance is cut"
        self.heard_s.append(len(samples) / SECOND)
        self.padded_s.append(padded_s)
        return len(samples)

    def _prompt(self, encoded: int) -> list[int]:
        self.prompted += 1
        return self._prompt_of("en")

    def _prompt_of(self, language: str) -> list[int]:
        return [ord(letter) for letter in language]

    def _write(self, encoded: int, prompt: list[int], max_tokens: int, beam: int = 1, **options: Any) -> list[Heard]:
        if beam == 1:
            return [self._greedy]
        return [*self._there] if encoded == self._utterance else [*self._slower]


def slowed(seconds: float) -> list[Any]:
    """How long an utterance is that is heard slower."""
    return [pytest.approx(seconds / speed, abs=0.01) for speed in SLOWER]


def test_greedy_words_stand_where_they_are_sure() -> None:
    likelier = [Heard("Rain on a roof.", -0.1, 0.0, 5), Heard("Rain.", -0.1, 0.0, 2)]
    written = Written(Heard("Rain on the roof.", -0.2, 0.0, 5), likelier, likelier)
    assert written() == "Rain on the roof."
    assert written.heard_s == [10], "it is heard once"


@pytest.mark.parametrize(("written", "said"), [(". .", ""), ("♪♪", ""), ("…", ""), ("7.", "7."), ("雨。", "雨。")])
def test_what_has_no_letter_and_no_digit_is_no_caption(written: str, said: str) -> None:
    assert Written(Heard(written, -0.2, 0.0, 2), [])() == said


def test_the_language_of_a_loop_is_found_once_an_encoding() -> None:
    written = Written(Heard("Rain on the roof. " * 9, -0.2, 0.0, 45), [])
    written()
    assert written.padded_s == [15, FULL_S]
    assert written.prompted == 2


def test_else_the_likeliest_as_a_whole_is_written_and_not_the_likeliest_a_token() -> None:
    found = [Heard("Rain on, on the roof.", -0.4, 0.0, 8), Heard("Rain on the roof.", -0.45, 0.0, 5)]
    assert Written(Heard("Train on the roof.", -0.5, 0.0, 5), found)() == "Rain on the roof."


def test_a_hypothesis_that_ends_early_is_not_written() -> None:
    found = [Heard("Rain on the roof.", -0.45, 0.0, 5), Heard("Rain.", -0.5, 0.0, 2)]
    assert Written(Heard("Train on the roof.", -0.5, 0.0, 5), found)() == "Rain on the roof."
    assert Written(Heard("Train on the roof.", -0.5, 0.0, 5), found[1:] * 2)() == "Train on the roof."


def test_a_hypothesis_that_nobody_can_say_in_the_time_is_not_written() -> None:
    rain, many = Heard("Rain on the roof.", -0.9, 0.0, 5), Heard("Rain on the roof, and " * 3, -0.2, 0.0, 18)
    assert Written(replace(rain, score=-0.4), [many, rain])(2) == rain.text
    assert Written(replace(many, score=-0.9), [many, rain])(2) == rain.text, (
        "how long greedy words are says nothing then"
    )


def test_where_greedy_is_unsure_the_utterance_is_heard_slower_too_and_the_likelier_words_are_written() -> None:
    greedy = Heard("Train on the roof.", -0.6, 0.0, 5)
    found, slower = Heard("Grain on the roof.", -0.55, 0.0, 5), Heard("Rain on the roof.", -0.5, 0.0, 5)
    written = Written(greedy, [found, greedy], [slower])
    assert written() == "Rain on the roof."
    assert written.heard_s == [10, *slowed(10)]
    assert written.prompted == 1, "its language is found once"
    assert Written(greedy, [slower, greedy], [found])() == "Rain on the roof."
    surer = Written(replace(greedy, score=-0.4), [found, greedy], [slower])
    assert surer() == "Grain on the roof."
    assert surer.heard_s == [10]


class Others(Ears):
    """Who else hears, and finds texts that begin so the likelier.

    Attributes:
        heard: how many samples, each time.
        asked: about these texts.
    """

    speech = False

    def __init__(self, start: str = "Rain") -> None:
        self._start = start
        self.heard: list[int] = []
        self.asked: list[list[str]] = []

    def __call__(self, samples: Samples) -> Ears:
        self.heard.append(len(samples))
        return self

    def likelihoods(self, texts: Sequence[str]) -> list[float]:
        self.asked.append([*texts])
        return [-3.0 if text.startswith(self._start) else -9.0 for text in texts]


class Speech(Others):
    """Who else hears somebody speak."""

    speech = True


def test_who_else_hears_it_decides_between_hypotheses_that_are_about_as_likely() -> None:
    others = Others()
    train, rain = Heard("Train on the roof.", -0.45, 0.0, 5), Heard("Rain on the roof.", -0.5, 0.0, 5)
    assert Written(train, [train, rain])() == train.text
    assert Written(train, [train, rain], second=Second(others))() == rain.text
    assert others.heard == [10 * SECOND], "it hears the utterance as it was said"
    assert others.asked == [[train.text, rain.text]]
    far = replace(rain, score=-0.9)
    assert Written(train, [train, far], second=Second(others))() == train.text
    assert Written(replace(train, score=-0.2), [train, rain], second=Second(others))() == train.text
    assert len(others.heard) == 2, "it is not asked where greedy words are sure"


def test_it_is_not_asked_about_a_language_that_it_does_not_understand() -> None:
    train, rain = Heard("Train on the roof.", -0.45, 0.0, 5), Heard("Rain on the roof.", -0.5, 0.0, 5)
    for language, written in (("en", rain), (None, rain), ("de", train)):
        assert Written(train, [train, rain], second=Second(Others(), language))() == written.text


@pytest.mark.parametrize(
    "unlikely",
    [
        pytest.param(Heard("Train on the roof.", -1.7, 0.0, 5), id="as unlikely as over noise"),
        pytest.param(Heard("Train on the roof.", -1.1, 0.7, 5), id="over what Whisper takes for silence"),
    ],
)
def test_words_of_a_strange_voice_are_not_lost_where_who_else_hears_it_hears_somebody_speak(unlikely: Heard) -> None:
    rain = Heard("Rain on the roof.", -1.5, 0.0, 5)
    assert Written(unlikely, [rain, rain])() == ""
    assert Written(unlikely, [rain, rain], second=Second(Others()))() == "", "it hears nobody"
    assert Written(unlikely, [rain, rain], second=Second(Speech(), "de"))() == "", "it does not understand"
    written = Written(unlikely, [rain, rain], [rain], second=Second(Speech()))
    assert written() == rain.text
    assert written.heard_s[-len(SLOWER) :] == slowed(10), "it is heard slower, too"


def test_no_end_of_an_utterance_is_cut_off_for_being_slower() -> None:
    greedy = Heard("Train on the roof.", -0.6, 0.0, 5)
    written = Written(greedy, [greedy, greedy], [Heard("Rain.", -0.1, 0.0, 5)])
    assert written(28) == "Train on the roof."
    assert written.heard_s == [28]
    rain = Written(greedy, [greedy, greedy], [Heard("Rain on the roof.", -0.1, 0.0, 5)])
    assert rain(25) == "Rain on the roof."
    assert rain.heard_s == [25, pytest.approx(25 / SLOWER[0], abs=0.01)], "it is heard as slowly as 30 s allow"


def test_where_greedy_is_doubtful_it_hears_all_that_whisper_was_trained_on_before_anything_else() -> None:
    greedy = Heard("Train on the roof.", -0.9, 0.0, 5)
    written = Written(greedy, [greedy, greedy], [Heard("Rain on the roof.", -0.5, 0.0, 5)])
    assert written(8) == "Rain on the roof."
    assert written.padded_s == [15, 30, *([30] * len(SLOWER))]
    assert written.heard_s == [8, 8, *slowed(8)]


def test_noise_is_not_doubtful_and_neither_is_what_fills_the_whole_input() -> None:
    noise = Written(Heard("Thank you.", -1.7, 0.0, 2), [])
    assert (noise(8), noise.padded_s) == ("", [15])
    long = Written(Heard("Train on the roof.", -0.9, 0.0, 5), [Heard("Rain on the roof.", -0.5, 0.0, 5)] * 2)
    assert (long(28), long.padded_s) == ("Rain on the roof.", [30])
