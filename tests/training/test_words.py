"""What is said, asked and counted."""

from __future__ import annotations

from random import Random

import pytest

from training import questions, score, texts
from training.evaluate import right


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("  they set up camp  ", "They set up camp."),
        ("is it late?", "Is it late?"),
        ("it costs 5 dollars", None),
        ("the NASA report", None),
        ("Mr Smith came", None),
        ("", None),
    ],
)
def test_only_what_is_spoken_as_it_is_written_is_spoken(text: str, spoken: str | None) -> None:
    assert texts.spoken(text) == spoken


def test_texts_are_examples_definitions_and_sentences_without_their_marks() -> None:
    collected = texts.collected()
    assert "She carried the apples in a basket." in collected  # an example of WordNet
    assert "A metal pot for boiling water." in collected  # a definition
    assert "Nothing grows faster than a list of things to do." in collected  # a saying
    assert "Many patches together are called a release." in collected  # the Jargon File
    assert not [text for text in collected if "percent" in text or "written for the tests" in text.casefold()]
    assert collected == sorted({*collected})


def test_numbers_in_words() -> None:
    assert texts.in_words(7_019) == "seven thousand nineteen"
    assert texts.in_words(432) == "four hundred and thirty-two"


def test_the_same_text_is_always_on_the_same_side() -> None:
    assert texts.held_out("He was late.") == texts.held_out("he was late")
    held = sum(texts.held_out(f"text number {texts.in_words(i)}") for i in range(5_000))
    assert 0.02 < held / 5_000 < 0.04


def test_every_composed_sentence_is_spoken_as_it_is_written() -> None:
    random = Random(0)
    assert all("{" not in text and text[-1] in ".?" for text in (texts.composed(random) for _ in range(300)))


SAID = ["Anna here. The garden is closed.", "Ben speaking. Nobody saw the umbrella.", "It rained in April."]


def test_answers_are_in_what_was_said() -> None:
    for seed in range(30):
        for asked in questions.about_speech(Random(seed), SAID, ["The piano is broken."], 9):
            words = asked.question.rstrip("?.").replace(",", "").replace(":", "").split()
            if asked.kind == "mentioned":
                known = {"garden", "closed", "Nobody", "nobody", "umbrella", "rained", "April", "Anna", "Ben"}
                assert (asked.answer == "Yes.") == bool(known & set(words))
            elif asked.kind == "who":
                assert asked.answer == ("Anna." if {"garden", "closed"} & set(words) else "Ben.")
            elif not asked.answer.startswith("Nothing is said"):
                assert asked.answer in SAID
            if asked.kind in ("first", "last"):
                assert asked.answer == (SAID[0] if asked.kind == "first" else SAID[-1])


def test_words_wrong() -> None:
    assert score.words_wrong([("The cat sat.", "the cat sat")]) == 0
    assert score.words_wrong([("a b c d", "a x c"), ("e f", "e f g")]) == pytest.approx(3 / 6)
    assert score.bare("Mr. Well-known's") == ["mister", "well", "known's"]


def test_an_interval_holds_its_share() -> None:
    low, high = score.wilson(8, 10)
    assert 0 < low < 0.8 < high < 1
    assert score.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("expected", "got", "is_right"),
    [
        ("Yes.", "Yes.", True),
        ("Yes.", "No.", False),
        ("Anna.", "Anna", True),
        ("The garden is closed.", "Anna here. The garden is closed.", True),
        ("The garden is closed.", "Nobody saw the umbrella.", False),
        ("It costs eight hundred and two.", "It costs 802.", True),
    ],
)
def test_an_answer_is_right_by_its_words(expected: str, got: str, is_right: bool) -> None:
    assert right(expected, got) == is_right
