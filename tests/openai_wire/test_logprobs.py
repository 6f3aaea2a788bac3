"""Log probabilities of words, in the shape of the OpenAI API's tokens."""

from __future__ import annotations

import pytest

from af3stream.protocol import messages as m
from af3stream.server.logprobs import word_logprobs


def caption(text: str, *words: tuple[str, float]) -> m.Caption:
    timed = tuple(m.Word(word, i, i + 1, probability) for i, (word, probability) in enumerate(words))
    return m.Caption(0, text, 0.0, 1.0, final=True, words=timed)


def test_a_token_is_a_word_with_the_white_space_before_it() -> None:
    told = word_logprobs(caption("Es regnet.", ("Es", 1.0), ("regnet.", 0.5)), " ")
    assert told == [
        {"token": " Es", "logprob": 0.0, "bytes": [32, 69, 115]},
        {"token": " regnet.", "logprob": -0.6931, "bytes": [*b" regnet."]},
    ]


def test_words_without_white_space_between_them_have_none() -> None:
    told = word_logprobs(caption("雨が降る", ("雨が", 0.9), ("降る", 0.8)))
    assert [entry["token"] for entry in told] == ["雨が", "降る"]


def test_a_word_that_is_hardly_probable_has_a_finite_logarithm() -> None:
    (entry,) = word_logprobs(caption("Hm.", ("Hm.", 0.0)))
    assert entry["logprob"] == pytest.approx(-6.9078)


def test_a_caption_without_word_times_has_none() -> None:
    assert word_logprobs(caption("Hello.")) == []
