"""When words are shown, and how often they change, by hand-made histories."""

from __future__ import annotations

import pytest

from af3stream.protocol.messages import Caption
from bench.words import Word, bare, delays, revised, taken_back

WORDS = [Word("he", 0.2), Word("was", 0.4), Word("young", 0.8), Word("man", 1.2)]


def caption(text: str, *, final: bool = False, stable: str = "", utterance: int = 0) -> Caption:
    return Caption(utterance, text, 0.0, 1.2, final=final, stable=stable)


HISTORY = [
    (1.0, caption("He was")),
    (1.5, caption("He was old", stable="He was")),
    (2.0, caption("He was young man.", final=True, stable="He was young man.")),
]


def test_a_word_counts_from_when_it_is_shown_and_never_changes() -> None:
    assert delays(HISTORY, WORDS) == pytest.approx([0.8, 0.6, 1.2, 0.8])


def test_a_word_is_stable_once_it_is_called_so() -> None:
    assert delays(HISTORY, WORDS, stable=True) == pytest.approx([1.3, 1.1, 1.2, 0.8])


def test_a_word_that_goes_and_comes_back_counts_from_its_return() -> None:
    history = [(0.5, caption("he")), (0.7, caption("we")), (0.9, caption("he")), (1.0, caption("he", final=True))]
    assert delays(history, WORDS[:1]) == pytest.approx([0.7])


def test_words_that_come_out_otherwise_are_left_out() -> None:
    assert len(delays([(2.0, caption("He was a young man", final=True))], WORDS)) == 4
    assert len(delays([(2.0, caption("She was young", final=True))], WORDS)) == 2


def test_an_utterance_without_a_final_caption_shows_nothing_for_good() -> None:
    assert delays(HISTORY[:2], WORDS) == []


def test_the_share_of_words_that_the_next_caption_changes() -> None:
    assert revised(HISTORY) == pytest.approx(1 / 5)  # "old", of "he was" and "he was old"
    assert revised([*HISTORY, (3.0, caption("Had he", utterance=1))]) == pytest.approx(1 / 5)


def test_a_word_that_was_stable_and_changes_is_taken_back() -> None:
    assert taken_back(HISTORY) == 0
    assert taken_back([*HISTORY[:2], (2.0, caption("He is young", final=True))]) == 1


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert bare("He -- was, Mr. John's!") == "he was mister john's"
