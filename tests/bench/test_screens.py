"""What a client shows, and since when, by hand-made transcripts."""

from __future__ import annotations

import pytest

from af3stream.protocol.messages import Caption
from bench.screens import Line, Screen, final_delays, of_captions, shown_since, word_delays
from bench.words import Word

SPOKEN = [Word("he", 0.2), Word("was", 0.4), Word("young", 0.8), Word("man", 1.2)]


def screen(at: float, *lines: str) -> Screen:
    """A screen whose lines are final if they end in a full stop."""
    return Screen(at, tuple(Line(line, line.endswith(".")) for line in lines))


HISTORY = [
    screen(1.0, "He was"),
    screen(1.5, "He was old"),
    screen(2.0, "He was.", "young man"),
    screen(3.0, "He was.", "Young man."),
]


def test_a_word_counts_from_when_it_is_shown_for_good() -> None:
    assert shown_since(HISTORY) == [1.0, 1.0, 2.0, 2.0]
    assert word_delays(HISTORY, SPOKEN) == pytest.approx([0.8, 0.6, 1.2, 0.8])


def test_a_word_that_moves_to_another_line_stays_shown() -> None:
    assert shown_since([screen(1.0, "he was young"), screen(2.0, "He was.", "young")]) == [1.0, 1.0, 1.0]


def test_a_word_that_an_earlier_correction_shifts_stays_shown() -> None:
    assert shown_since([screen(1.0, "was young"), screen(2.0, "he was young")]) == [2.0, 1.0, 1.0]


def test_a_word_that_goes_and_comes_back_counts_from_its_return() -> None:
    assert shown_since([screen(0.5, "he"), screen(0.7, "we"), screen(0.9, "he")]) == [0.9]


def test_a_final_line_is_late_by_its_last_recognised_word() -> None:
    assert final_delays(HISTORY, SPOKEN) == pytest.approx([2.0 - 0.4, 3.0 - 1.2])
    assert final_delays([screen(2.0, "He was a boy.")], SPOKEN) == pytest.approx([2.0 - 0.4])


def test_a_line_that_is_never_final_has_no_delay_of_a_final() -> None:
    assert final_delays(HISTORY[:3], SPOKEN) == pytest.approx([2.0 - 0.4])
    assert shown_since(HISTORY[:3], final=True) == [2.0, 2.0, None, None]


def test_words_that_were_not_said_have_no_delay() -> None:
    assert word_delays([screen(2.0, "She was young.")], SPOKEN) == pytest.approx([1.6, 1.2])


def test_captions_become_the_transcript_in_the_order_of_utterances() -> None:
    captions = [
        (1.0, Caption(0, "He was", 0.0, 0.5, final=False)),
        (2.0, Caption(1, "young", 0.6, 1.0, final=False)),
        (2.5, Caption(0, "He was.", 0.0, 0.5, final=True)),
    ]
    assert of_captions(captions)[-1] == Screen(2.5, (Line("He was.", True), Line("young", False)))
    assert [one.words(final=True) for one in of_captions(captions)] == [[], [], ["he", "was"]]
