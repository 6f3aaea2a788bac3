"""The published sizes, two layers of each stack kept, go through every shape, without weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AudioFlamingo3ForConditionalGeneration, WhisperFeatureExtractor

from af3stream.engine.af3.alignment import Alignment
from af3stream.engine.af3.decode import Decoder
from af3stream.engine.af3.encoder import Encoder
from af3stream.engine.counters import Counters
from tests.checkpoints import make_tokenizer, published_config

ALIGNMENT = Alignment(sampling_rate=16_000, chunk_length=30, hop_length=160, max_windows=20)
HIDDEN, KV_HEADS, HEAD_DIM = 3_584, 4, 128
BYTES_A_TOKEN = 57_344  # keys and values of all 28 layers in bfloat16


@pytest.fixture(scope="module")
def model() -> AudioFlamingo3ForConditionalGeneration:
    config = published_config(make_tokenizer(), layers=2)
    with torch.device("meta"):
        return AudioFlamingo3ForConditionalGeneration(config).to(torch.bfloat16).eval()


@pytest.mark.parametrize(("seconds", "frames"), [((30,), (750,)), ((3,), (75,)), ((30, 10, 0.5), (750, 250, 12))])
def test_windows_become_frames_of_the_language_models_width(
    model: AudioFlamingo3ForConditionalGeneration, seconds: tuple[float, ...], frames: tuple[int, ...]
) -> None:
    encoder = Encoder(model, WhisperFeatureExtractor(feature_size=128), ALIGNMENT)
    encoded = encoder.encode([np.zeros(round(s * 16_000), np.float32) for s in seconds])
    assert [tuple(window.shape) for window in encoded] == [(k, HIDDEN) for k in frames]
    assert {window.dtype for window in encoded} == {torch.bfloat16}


def test_twenty_windows_and_a_question_fit_the_slot_in_place(model: AudioFlamingo3ForConditionalGeneration) -> None:
    decoder = Decoder(model, frozenset({0}), Counters(), chunk=512)
    slot = decoder.new_slot(20 * 750 + 512)
    for _ in range(20):
        states = [*decoder.prefill(slot, torch.empty(750, HIDDEN, dtype=torch.bfloat16, device="meta"))]
    assert slot.length == 15_000
    assert states[-1].shape == (750 - 512, HIDDEN)
    assert decoder.logits(states[-1][-1]).shape == (152_064,)
    layer = slot.layers[0]
    assert layer.keys.shape == (1, KV_HEADS, 15_512, HEAD_DIM)
    assert slot.nbytes == 15_512 * BYTES_A_TOKEN * 2 // 28
