"""AF3 as captioner: a draft makes a caption sooner, never different."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.draft import guess
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.prompt import TRANSCRIBE
from af3stream.engine.captioning import Hypothesis, Samples, result_of
from tests.captioned import captioned
from tests.engine import reference

pytestmark = pytest.mark.device
Signal = Callable[[float, int], Samples]
TOKENS = 32


def test_a_caption_is_what_generate_transcribes(engine: Af3Engine, loaded: LoadedCheckpoint, signal: Signal) -> None:
    for seconds in (0.4, 3.3, 11.0):
        heard = captioned(engine.captioner, signal(seconds, 1), max_tokens=TOKENS)
        assert list(heard.tokens) == reference.stock_reply(loaded, signal(seconds, 1), TRANSCRIBE, TOKENS)


@pytest.mark.parametrize("kept", [0, 1, 7, TOKENS])
@pytest.mark.parametrize("wrong", [(), (7,), (7, 9, 11)])
def test_a_caption_with_a_draft_equals_one_without(
    engine: Af3Engine, signal: Signal, kept: int, wrong: tuple[int, ...]
) -> None:
    plain = captioned(engine.captioner, signal(5.0, 2), max_tokens=TOKENS)
    draft = Hypothesis("", plain.tokens[:kept] + wrong)
    assert captioned(engine.captioner, signal(5.0, 2), draft, max_tokens=TOKENS) == plain


def test_a_growing_utterance_is_captioned_as_if_each_time_were_the_first(engine: Af3Engine, signal: Signal) -> None:
    draft = None
    for seconds in (1.0, 2.0, 3.0, 4.0):
        samples = signal(4.0, 3)[: round(seconds * 16_000)]
        plain = captioned(engine.captioner, samples, final=False, max_tokens=TOKENS)
        draft = captioned(engine.captioner, samples, draft, final=False, max_tokens=TOKENS)
        assert draft == plain


@pytest.mark.parametrize("place", [0, 3, 10])
@pytest.mark.parametrize(
    "edit",
    [lambda t, i: t[:i] + t[i + 1 :], lambda t, i: t[:i] + t[i : i + 1] + t[i:], lambda t, i: (*t[:i], 7, *t[i + 1 :])],
    ids=["a word missing", "a word twice", "another word"],
)
def test_a_draft_with_one_word_otherwise_costs_few_passes(
    engine: Af3Engine, signal: Signal, place: int, edit: Callable[[tuple[int, ...], int], tuple[int, ...]]
) -> None:
    samples = signal(0.8, 6)
    plain = captioned(engine.captioner, samples, max_tokens=TOKENS)
    draft = Hypothesis("", edit(plain.tokens, place))
    before = engine.counters.forward_passes
    assert captioned(engine.captioner, samples, draft, max_tokens=TOKENS) == plain
    assert engine.counters.forward_passes - before <= 2 + (len(plain.tokens) - place) / 2


def test_the_longer_a_draft_is_right_the_more_of_it_is_read_in_a_pass(engine: Af3Engine, signal: Signal) -> None:
    plain = captioned(engine.captioner, signal(0.8, 6), max_tokens=TOKENS)
    before = engine.counters.forward_passes
    draft = Hypothesis("", (7, *plain.tokens[1:]))
    assert captioned(engine.captioner, signal(0.8, 6), draft, max_tokens=TOKENS) == plain
    assert engine.counters.forward_passes - before <= 4  # the first word, 4 words, 16, and the rest


def test_a_reply_that_repeats_itself_is_its_own_draft(engine: Af3Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, loop = engine._decoder, [5, 6, 7, 8] * 8
    monkeypatch.setattr(
        decoder, "likeliest", lambda states: [loop[slot.length - len(states) + i] for i in range(len(states))]
    )
    slot, before = decoder.new_slot(64), engine.counters.forward_passes
    assert result_of(decoder.drafted(slot, decoder.embed([1]), [], 23)) == loop[:23]
    assert engine.counters.forward_passes - before <= 5 + 23 / 4  # once word by word, then a round a pass


@pytest.mark.parametrize(
    ("written", "draft", "guessed"),
    [
        ([1, 2], [1, 9, 3, 4, 5, 6], [3, 4, 5]),  # 2 in place of 9
        ([1, 2], [9, 1, 2, 3, 4], [3, 4]),  # 9 is left out
        ([1, 8, 2], [1, 2, 3], [3]),  # 8 is put in
        ([5, 2], [1, 2, 3, 5, 2, 4], [4]),  # the likest of two places, not the first
        ([1, 2], [], []),
        ([1, 2, 3], [1], []),
    ],
)
def test_what_comes_next_is_guessed_from_the_draft(written: list[int], draft: list[int], guessed: list[int]) -> None:
    assert guess(written, [draft], 3) == guessed


def test_an_agreeing_draft_is_read_in_one_pass(engine: Af3Engine, signal: Signal) -> None:
    samples = signal(0.8, 4)
    plain = captioned(engine.captioner, samples, max_tokens=TOKENS)
    before = engine.counters.forward_passes
    captioned(engine.captioner, samples, plain, max_tokens=len(plain.tokens))
    assert engine.counters.forward_passes - before == 1
