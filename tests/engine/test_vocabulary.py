"""A vocabulary in AF3's decode loop: terms are likelier, everything else is as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.vocabulary import FIRST, NEXT, TermTree
from af3stream.engine.captioning import CaptionOptions, Hypothesis, Samples
from tests.captioned import captioned

pytestmark = pytest.mark.device
Signal = Callable[[float, int], Samples]
TOKENS = 24


@pytest.mark.parametrize(
    ("written", "raised"),
    [
        pytest.param([], {1: FIRST, 4: FIRST}, id="a term may begin"),
        pytest.param([9, 1], {1: FIRST, 4: FIRST, 2: NEXT, 3: NEXT}, id="two terms go on"),
        pytest.param([1, 2], {1: FIRST, 4: FIRST, 5: NEXT}, id="one of them is left"),
        pytest.param([1, 2, 5], {1: FIRST, 4: FIRST}, id="a term is over"),
        pytest.param([1, 4], {1: FIRST, 4: NEXT}, id="another term begins within one"),
        pytest.param([1, 9], {1: FIRST, 4: FIRST}, id="a term is left"),
    ],
)
def test_tokens_that_begin_a_term_or_go_on_with_one_are_raised(written: list[int], raised: dict[int, float]) -> None:
    assert TermTree([[1, 2, 5], [1, 3], [4, 4], []]).bonuses(written) == raised


def test_the_likeliest_tokens_follow_what_was_guessed_before_them() -> None:
    logits = torch.zeros(3, 8)
    logits[:, 7] = 2.0  # more than what begins a term, less than what goes on with it
    assert TermTree([[1, 2, 3]]).likeliest(logits, [0, 1], [2, 5]) == [2, 3, 7]
    assert logits[0, 2] == 0


def test_an_empty_vocabulary_changes_no_token(engine: Af3Engine, signal: Signal) -> None:
    plain = captioned(engine.captioner, signal(3.0, 1), max_tokens=TOKENS)
    empty = captioned(engine.captioner, signal(3.0, 1), max_tokens=TOKENS, options=CaptionOptions())
    assert empty == plain


@pytest.mark.parametrize("kept", [0, 3, TOKENS])
def test_a_draft_changes_no_token_with_a_vocabulary(engine: Af3Engine, signal: Signal, kept: int) -> None:
    options = CaptionOptions(vocabulary=("rain on the roof", "Ugarte"))
    plain = captioned(engine.captioner, signal(5.0, 2), max_tokens=TOKENS, options=options)
    draft = Hypothesis("", (*plain.tokens[:kept], 7, 9))
    assert captioned(engine.captioner, signal(5.0, 2), draft, max_tokens=TOKENS, options=options) == plain


def test_no_term_is_a_control_token(engine: Af3Engine) -> None:
    tree = engine._terms(("<|im_end|>", "<sound>", "a<|im_end|>b"))
    control = {engine._fusion.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<sound>")}
    assert tree is not None
    nodes = [tree._root]
    while nodes:
        node = nodes.pop()
        assert not control & node.keys()
        nodes += node.values()
