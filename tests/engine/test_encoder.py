"""A window costs what its length costs, and its frames are those of the padded encode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.encoder import CONTEXT_FRAMES, Encoder
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.captioning import Samples
from tests.engine import reference
from tests.engine.conftest import DEVICE

pytestmark = pytest.mark.device
Signal = Callable[[float, int], Samples]
CLOSE = {"rtol": 0.0, "atol": 1e-5 if DEVICE == "cpu" else 1e-4}  # float32; the sums run in another order


@pytest.mark.parametrize("samples", [480, 481, 1_000, 48_007, 160_000, 479_200, 479_999, 480_000])
def test_a_trimmed_encode_equals_the_padded_one(any_attention: LoadedCheckpoint, signal: Signal, samples: int) -> None:
    encoder = _encoder(any_attention)
    window = signal(30.0, 1)[:samples]
    (frames,) = encoder.encode([window])
    torch.testing.assert_close(frames, reference.projected(any_attention, window), **CLOSE)


def test_the_mel_is_as_long_as_the_window(loaded: LoadedCheckpoint, signal: Signal) -> None:
    encoder = _encoder(loaded)
    assert encoder.mel([signal(3.0, 2)]).shape == (1, 80, 300 + CONTEXT_FRAMES)
    assert encoder.mel([signal(30.0, 2)]).shape == (1, 80, 3_000)


def test_a_batch_equals_its_singles_in_one_pass(any_attention: LoadedCheckpoint, signal: Signal) -> None:
    encoder = _encoder(any_attention)
    windows = [signal(seconds, 3) for seconds in (0.05, 3.3, 12.0, 12.0)]
    together = encoder.encode(windows)
    assert encoder.passes == 1
    for window, frames in zip(windows, together, strict=True):
        torch.testing.assert_close(frames, encoder.encode([window])[0], **CLOSE)


def test_less_than_three_mel_frames_are_no_frames(loaded: LoadedCheckpoint, signal: Signal) -> None:
    encoder = _encoder(loaded)
    short, long = encoder.encode([np.zeros(320, np.float32), signal(1.0, 4)])
    assert short.shape == (0, 64)
    assert long.shape == (25, 64)


def test_windows_are_encoded_several_in_a_pass(loaded: LoadedCheckpoint, signal: Signal) -> None:
    engine = Af3Engine(loaded, "tiny", keep_on_host=True, encode_together=2)
    encoded = engine.encode([signal(1.0, seed) for seed in range(3)])
    assert [embeddings.shape for embeddings in encoded if isinstance(embeddings, torch.Tensor)] == [(25, 64)] * 3
    assert (engine.counters.encoder_passes, engine.counters.sounds_encoded) == (2, 3)


def _encoder(loaded: LoadedCheckpoint) -> Encoder:
    return Encoder(loaded.model, loaded.processor.feature_extractor, loaded.alignment)
