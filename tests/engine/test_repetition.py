"""A reply that repeats itself is ended, by the engine and by the reference `generate` at the same token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from af3stream.engine.af3.checkpoint import LoadedCheckpoint, load_checkpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.prompt import TRANSCRIBE
from af3stream.engine.af3.repetition import LEAST, PERIOD, TIMES, repeats
from af3stream.engine.captioning import Samples
from tests.captioned import captioned
from tests.checkpoints import make_tiny
from tests.engine import reference
from tests.engine.conftest import answer, model_config, new_context, parts_of

pytestmark = pytest.mark.device
Signal = Callable[[float, int], Samples]
TOKENS = 160
WEAK = 0.02  # of what the layers add to the embedding of the last token
BEGUN = [900, 901, 902]  # of a reply, before its loop


@pytest.mark.parametrize("period", [LEAST // TIMES, 20, PERIOD])
def test_a_phrase_is_a_loop_once_it_stands_so_many_times_in_a_row(period: int) -> None:
    looping = [*BEGUN, *list(range(period)) * TIMES]
    assert repeats(looping)
    assert not any(repeats(looping[:end]) for end in range(len(looping)))


@pytest.mark.parametrize("period", [1, 2, 5])
def test_a_short_phrase_stands_in_a_row_for_so_many_tokens(period: int) -> None:
    looping = [*BEGUN, *(list(range(period)) * LEAST)[:LEAST]]
    assert repeats(looping)
    assert not repeats(looping[:-1])


def test_a_longer_phrase_is_none_and_neither_is_one_that_differs_each_time() -> None:
    assert not repeats(list(range(PERIOD + 1)) * TIMES)
    assert not repeats([token for turn in range(9) for token in (*range(9), 100 + turn)])
    assert not repeats([])


def test_what_was_repeated_earlier_in_a_reply_is_no_loop() -> None:
    assert not repeats([*[5] * LEAST, 6])


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def looping(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    """A tiny checkpoint whose next token depends on the last one nearly alone, so that greedy decoding loops."""
    loaded = load_checkpoint(make_tiny(tmp_path_factory.mktemp("looping"), text=request.param), model_config())
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "language_model" in name and ("o_proj" in name or "down_proj" in name):
                parameter.mul_(WEAK)
    return loaded


@pytest.mark.parametrize("number", range(3))
def test_an_answer_that_loops_is_that_of_generate_with_the_same_rule(
    looping: LoadedCheckpoint, signal: Signal, number: int
) -> None:
    engine, body = Af3Engine(looping, "looping"), [signal(3.0, number), "Transcript: one two.\n"]
    expected = reference.reply(looping, body, "What was said?", TOKENS)
    text, completion = answer(new_context(engine), parts_of(engine, body), "What was said?", TOKENS)
    assert repeats(expected) and len(expected) < TOKENS
    assert text == engine.text(expected)
    assert (completion.tokens, completion.finish) == (len(expected), "stop")


def test_a_caption_that_loops_ends_at_the_same_token_with_and_without_a_draft(
    looping: LoadedCheckpoint, signal: Signal
) -> None:
    engine, samples = Af3Engine(looping, "looping"), signal(3.0, 1)
    expected = reference.stock_reply(looping, samples, TRANSCRIBE, TOKENS)
    plain = captioned(engine.captioner, samples, max_tokens=TOKENS)
    assert repeats(expected)
    assert list(plain.tokens) == expected
    assert captioned(engine.captioner, samples, plain, max_tokens=TOKENS) == plain


def test_a_batch_of_replies_that_loop_is_that_of_generate(looping: LoadedCheckpoint, signal: Signal) -> None:
    engine, audios = Af3Engine(looping, "looping"), [signal(3.0, 1), signal(2.0, 2)]
    expected = [engine.text(reference.stock_reply(looping, audio, "What was said?", TOKENS)) for audio in audios]
    assert engine.generate(["What was said?"] * 2, audios, max_tokens=TOKENS) == expected
