"""A slot is written in place: every position's keys and values once, and nothing that is held is moved or copied."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.decode import Decoder, Reply
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.kv import Slot
from af3stream.engine.captioning import Samples
from af3stream.errors import ContextFull
from tests.engine.conftest import cpu_only, new_context, noise, parts_of

pytestmark = pytest.mark.device
Signal = Callable[[float, int], Samples]


def addresses(slot: Slot) -> list[int]:
    """Where keys and values lie."""
    return [tensor.data_ptr() for layer in slot.layers for tensor in (layer.keys, layer.values)]


def test_bytes_copied_a_token_are_its_own_however_long_the_prefix(engine: Af3Engine, signal: Signal) -> None:
    context, seen = new_context(engine), set()
    parts = parts_of(engine, [signal(20.0, seed) for seed in range(5)])
    for end in range(1, len(parts) + 1):
        list(context.extend(parts[:end]))
        assert context._kept
        slot = context._kept.slot
        seen.add(tuple(addresses(slot)))
        assert slot.copied == slot.nbytes // slot.capacity * slot.length
    assert len(seen) == 1


def test_a_decoded_token_copies_its_own_keys_and_values(engine: Af3Engine, signal: Signal) -> None:
    decoder = engine._decoder
    slot = decoder.new_slot(2_000)
    for read in (10, 900):
        for _ in decoder.prefill(slot, noise(read, decoder.hidden_size)):
            pass
        before, where = slot.copied, addresses(slot)
        reply = Reply(slot, last=5)
        decoder.advance([reply])
        assert slot.copied - before == slot.nbytes // slot.capacity
        assert addresses(slot) == where and reply.next is not None


@cpu_only
@pytest.mark.skipif(sys.platform != "linux", reason="pages are counted by mincore")
def test_a_slot_takes_what_it_has_written_and_no_memory_of_slots_before(engine: Af3Engine) -> None:
    from bench.memory import resident

    decoder = engine._decoder
    for _ in range(3):
        slot = decoder.new_slot(8_192)
        list(decoder.prefill(slot, noise(512, decoder.hidden_size)))
        taken = sum(resident(tensor) for layer in slot.layers for tensor in (layer.keys, layer.values))
        written = slot.written * slot.nbytes // slot.capacity
        assert written <= taken <= written + 2 * mmap.PAGESIZE * len(addresses(slot)) * slot.layers[0].keys.shape[1]
        decoder.new_slot(8_192).layers[0].keys.fill_(1.0)  # and is gone


def test_what_does_not_fit_is_refused_and_leaves_every_slot_as_it_was(engine: Af3Engine) -> None:
    decoder = engine._decoder
    slots = [decoder.new_slot(capacity) for capacity in (20, 11)]
    for slot in slots:
        list(decoder.prefill(slot, noise(11, decoder.hidden_size)))
    replies = [Reply(slot, last=5) for slot in slots]
    with pytest.raises(ContextFull):
        decoder.advance(replies)
    assert [slot.length for slot in slots] == [11, 11]
    assert {layer.length for slot in slots for layer in slot.layers} == {11}
    assert [reply.last for reply in replies] == [5, 5]


def test_the_checkpoint_itself_stays_as_transformers_made_it(loaded: LoadedCheckpoint, engine: Af3Engine) -> None:
    stock, ours = loaded.model.model.language_model, engine._decoder._language_model
    assert stock.config._attn_implementation == "sdpa" != ours.config._attn_implementation
    assert type(stock.layers[0].self_attn.q_proj) is torch.nn.Linear
    for theirs, shared in zip(stock.parameters(), ours.parameters(), strict=True):
        assert theirs is shared


# ---- several together ------------------------------------------------------------------------------------------------


@pytest.fixture
def prompts(engine: Af3Engine) -> list[torch.Tensor]:
    """Four prompts of different lengths, (n, hidden)."""
    torch.manual_seed(1)
    return [noise(length, engine._decoder.hidden_size) for length in (30, 3, 400, 129)]


def begun(decoder: Decoder, prompt: torch.Tensor) -> Reply:
    reply = Reply(decoder.new_slot(500))
    for states in decoder.prefill(reply.slot, prompt):
        (reply.next,) = decoder.likeliest(states[-1:])
    return reply


@pytest.mark.parametrize("together", [2, 4])
def test_replies_written_together_are_those_written_alone(
    engine: Af3Engine, prompts: list[torch.Tensor], together: int
) -> None:
    decoder, limits = engine._decoder, (20, 9, 14, 1)
    alone = [list(decoder.greedy(begun(decoder, p), most)) for p, most in zip(prompts, limits, strict=True)]
    replies = [begun(decoder, prompt) for prompt in prompts]
    writing: list[Iterator[int]] = [decoder.greedy(r, most) for r, most in zip(replies, limits, strict=True)]
    written: list[list[int]] = [[] for _ in prompts]
    before = engine.counters.forward_passes
    for _ in range(max(limits)):
        for tokens, reply in zip(written, writing, strict=True):
            tokens.extend(token for token in (next(reply, None),) if token is not None)
        waiting = [reply for reply in replies if reply.last is not None]
        for start in range(0, len(waiting), together):
            decoder.advance(waiting[start : start + together])
    assert written == alone
    if together == len(prompts):
        assert engine.counters.forward_passes - before == max(len(tokens) for tokens in alone) - 1
