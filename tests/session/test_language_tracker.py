"""The language of a session: what the tracker holds, what changes it, and what never does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3stream.session.language_tracker import SHORT_S, LanguageTracker

CODES = ("en", "es", "fr", "ja")
SURE = {"en": {"en": 0.98, "es": 0.004}, "es": {"es": 0.98, "en": 0.004}}

Utterance = tuple[Mapping[str, float], float]  # the detector's probabilities, and seconds


def decided(tracker: LanguageTracker, *utterances: Utterance) -> list[str | None]:
    """The language of each utterance."""
    return [tracker.decide(number, *utterance) for number, utterance in enumerate(utterances)]


def in_english(**options: tuple[str, ...]) -> LanguageTracker:
    """A tracker that has heard ten seconds of English, as utterance -1."""
    tracker = LanguageTracker(**options)  # type: ignore[arg-type]
    assert tracker.decide(-1, SURE["en"], 10.0) == "en"
    return tracker


def test_before_any_speech_there_is_no_language() -> None:
    assert LanguageTracker().language is None
    assert LanguageTracker().held is None


@pytest.mark.parametrize("seconds", [0.4, 3.0, 20.0])
def test_the_first_utterance_is_in_the_language_that_its_own_audio_says(seconds: float) -> None:
    assert LanguageTracker().decide(0, {"fr": 0.4, "en": 0.35, "es": 0.2}, seconds) == "fr"


def test_a_short_first_utterance_is_not_held() -> None:
    tracker = LanguageTracker()
    assert tracker.decide(0, {"ja": 0.8, "en": 0.1}, 0.8) == "ja"
    assert tracker.held is None
    assert tracker.decide(1, SURE["en"], 4.0) == tracker.held == "en"


@given(st.lists(st.dictionaries(st.sampled_from(CODES), st.floats(0, 1)), max_size=30), st.floats(0, SHORT_S - 0.01))
def test_short_utterances_never_flip_a_language_that_is_held(heard: list[dict[str, float]], seconds: float) -> None:
    tracker = in_english()
    assert decided(tracker, *((probable, seconds) for probable in heard)) == ["en"] * len(heard)


def test_one_doubtful_utterance_changes_nothing() -> None:
    assert decided(in_english(), ({"es": 0.6, "en": 0.3}, 8.0), (SURE["en"], 3.0)) == ["en", "en"]


def test_one_sure_utterance_of_ordinary_length_changes_nothing_yet() -> None:
    assert decided(in_english(), (SURE["es"], 4.0), (SURE["en"], 4.0)) == ["en", "en"]


def test_a_lasting_change_is_followed_at_the_second_utterance() -> None:
    assert decided(in_english(), *[(SURE["es"], 4.0)] * 3) == ["en", "es", "es"]


def test_a_long_sure_utterance_is_a_lasting_change() -> None:
    assert decided(in_english(), (SURE["es"], 10.0)) == ["es"]


def test_a_language_that_was_spoken_for_an_hour_is_left_as_soon_as_one_that_was_spoken_for_a_minute() -> None:
    minute, hour = in_english(), in_english()
    for number in range(10):
        minute.decide(number, SURE["en"], 6.0)
    for number in range(600):
        hour.decide(number, SURE["en"], 6.0)
    assert minute.decide(600, SURE["es"], 7.0) == hour.decide(600, SURE["es"], 7.0)
    assert minute.decide(601, SURE["es"], 7.0) == hour.decide(601, SURE["es"], 7.0) == "es"


def test_only_languages_that_may_occur_are_chosen() -> None:
    tracker = LanguageTracker(candidates=("en", "fr"))
    assert decided(tracker, ({"es": 0.7, "fr": 0.2, "en": 0.1}, 6.0), ({"es": 1.0}, 30.0)) == ["fr", "fr"]


def test_a_told_language_is_never_another_one() -> None:
    tracker = LanguageTracker("en")
    assert decided(tracker, *[(SURE["es"], 30.0)] * 5) == ["en"] * 5
    assert not tracker.detects


def test_one_language_that_may_occur_is_as_good_as_told() -> None:
    tracker = LanguageTracker(candidates=("fr",))
    assert tracker.language == "fr" and not tracker.detects


def test_an_utterance_is_taken_in_once() -> None:
    tracker = in_english()
    assert [tracker.decide(0, SURE["es"], 4.0) for _ in range(5)] == ["en"] * 5


@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from(CODES), st.floats(0, 1)), st.floats(0, 30)), max_size=30),
    st.sampled_from([(), ("en", "es")]),
)
def test_a_replay_comes_to_the_same_languages(utterances: list[Utterance], candidates: tuple[str, ...]) -> None:
    first, second = LanguageTracker(candidates=candidates), LanguageTracker(candidates=candidates)
    assert decided(first, *utterances) == decided(second, *utterances)
    assert first.language == second.language


def test_a_silent_detector_leaves_the_language_as_it_is() -> None:
    assert decided(in_english(), ({}, 20.0), ({"es": 0.0}, 20.0)) == ["en", "en"]


def test_a_detector_in_doubt_names_the_languages_that_may_be_meant_until_one_is_held() -> None:
    doubtful = {"en": 0.45, "ja": 0.4, "fr": 0.1, "es": 0.03, "de": 0.02, "la": 0.001}
    assert LanguageTracker().doubts(doubtful) == ("en", "ja", "fr", "es")
    assert LanguageTracker().doubts(SURE["es"]) == ()
    assert LanguageTracker().doubts({}) == ()
    assert LanguageTracker("en").doubts(doubtful) == in_english().doubts(doubtful) == ()


def test_a_soft_decision_is_wrong_if_another_language_is_held_after_it() -> None:
    tracker = LanguageTracker()
    assert decided(tracker, ({"ja": 0.8, "en": 0.1}, 0.8)) == ["ja"]
    assert tracker.open == {0} and tracker.take_wrong() == ()
    assert tracker.decide(1, SURE["en"], 5.0) == "en"
    assert tracker.take_wrong() == (0,) and tracker.take_wrong() == ()
    assert tracker.open == frozenset()


def test_utterances_that_sounded_like_the_next_language_before_it_was_followed_were_wrong() -> None:
    tracker = in_english()
    assert decided(tracker, (SURE["es"], 4.0), ({"fr": 0.9}, 1.0), (SURE["es"], 1.0), (SURE["es"], 5.0))[-1] == "es"
    assert tracker.take_wrong() == (0, 2)


def test_utterances_before_the_held_language_was_heard_again_stay_as_they_are() -> None:
    tracker = in_english()
    decided(tracker, (SURE["es"], 4.0), (SURE["en"], 4.0), (SURE["es"], 10.0))
    assert tracker.language == "es"
    assert tracker.take_wrong() == ()


def test_a_restart_goes_on_with_the_language_that_was_decided_last() -> None:
    tracker = LanguageTracker()
    for language, seconds in (("en", 5.0), ("es", 4.0), ("en", 1.0)):
        tracker.restore(language, seconds)
    assert tracker.held == "es"
    assert tracker.decide(0, SURE["en"], 1.0) == "es"
