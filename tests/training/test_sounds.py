"""Augmentation and sounds: same length, finite, within full scale, and different each time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training import augment, sounds


@pytest.mark.parametrize("seed", range(8))
def test_speech_stays_as_long_as_it_is_wherever_it_is_heard(seed: int) -> None:
    rng = np.random.default_rng(seed)
    speech = (0.1 * rng.standard_normal(20_000)).astype(np.float32)
    heard = augment.heard(rng, speech, [speech[:9_000]])
    assert heard.shape == speech.shape
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()
    assert 0.005 < np.sqrt(np.square(heard).mean()) < 0.3


def test_mu_law_keeps_eight_bits() -> None:
    ramp = np.linspace(-1, 1, 10_001)
    packed = augment.mu_law(ramp)
    assert len(np.unique(packed)) <= 256
    assert np.abs(packed - ramp).max() < 0.03


def test_masks_and_throats_keep_the_shape() -> None:
    rng = np.random.default_rng(0)
    mels = torch.randn(3, 80, 400)
    assert augment.masked(rng, augment.throat(rng, mels)).shape == (3, 80, 400)


@pytest.mark.parametrize("name", [*sounds.MADE, "silence"])
def test_a_take_is_loud_enough_and_another_seed_is_another_take(name: str) -> None:
    one, other = (sounds.take(name, np.random.default_rng(seed)) for seed in (1, 2))
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    assert np.abs(one).max() <= 1
    assert name == "silence" or np.abs(one).max() > 0.05
    assert not np.array_equal(one[:1_000], other[:1_000]) or np.abs(one - other[: len(one)][0]).max() > 0


def test_a_tune_is_a_midi_file() -> None:
    midi = sounds._midi("piano", np.random.default_rng(0), 2.0)
    assert midi[:4] == b"MThd"
    assert midi[14:18] == b"MTrk"
    assert int.from_bytes(midi[18:22], "big") == len(midi) - 22
    assert midi.endswith(b"\xff\x2f\x00")
