"""Augment speech as rooms, microphones and telephones change it: speed, echo, noise, colour and level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from af3stream.audio import SAMPLE_RATE
from training.voices import Samples

Generator = np.random.Generator


def heard(rng: Generator, speech: Samples, others: Sequence[Samples]) -> Samples:
    """Return augmented speech, (n,) float32, of the same length.

    Args:
        others: clips for babble in the background.
    """
    samples = room(rng, speech) if rng.random() < 0.4 else speech
    samples = coloured(rng, samples, narrow=rng.random() < 0.2)
    if rng.random() < 0.6:
        samples = at_snr(samples, noise(rng, len(samples), others), rng.uniform(4, 35))
    samples = at_level(samples, rng.uniform(-34, -14))
    hissing: NDArray[np.floating] = samples + 10 ** rng.uniform(-5, -3.2) * rng.standard_normal(len(samples))
    return (mu_law(hissing) if rng.random() < 0.15 else hissing).astype(np.float32)


def faster(samples: Samples, factor: float) -> Samples:
    """Change speed and pitch by ``factor``."""
    changed: Samples = soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE, quality="LQ")
    return changed


def room(rng: Generator, samples: Samples) -> Samples:
    """Add the echo of a room that decays by 60 dB in 0.1 to 0.7 s."""
    dies_s = rng.uniform(0.1, 0.7)
    times = np.arange(int(dies_s * SAMPLE_RATE)) / SAMPLE_RATE
    echo = rng.standard_normal(len(times)) * np.exp(-6.9 * times / dies_s)
    echo *= 10 ** (-rng.uniform(0, 12) / 20) / np.sqrt(np.square(echo).sum())
    echo[0] = 1.0
    size = 1 << (len(samples) + len(echo) - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(echo, size), size)
    return wet[: len(samples)].astype(np.float32)


def coloured(rng: Generator, samples: Samples, *, narrow: bool) -> Samples:
    """Apply a random frequency response; ``narrow``: telephone band of about 300 to 3,400 Hz."""
    spectrum = np.fft.rfft(samples)
    frequencies = np.linspace(0, SAMPLE_RATE / 2, len(spectrum))
    marks = np.array([0, 100, 300, 800, 2_000, 4_000, 6_000, 8_000])
    gain = 10 ** (np.interp(frequencies, marks, rng.normal(0, 4, len(marks))) / 20)
    if narrow:
        low, high = rng.uniform(150, 350), rng.uniform(3_000, 4_000)
        gain = gain / (1 + (low / np.maximum(frequencies, 1)) ** 6) / (1 + (frequencies / high) ** 24)
    return np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)


def noise(rng: Generator, count: int, others: Sequence[Samples]) -> NDArray[np.float64]:
    """Return white to brown noise, hum or babble, (count,)."""
    kind = rng.random()
    if kind < 0.2 and others:
        babble = np.zeros(count)
        for clip in others:
            start = int(rng.integers(0, max(1, count - len(clip))))
            babble[start : start + len(clip)] += clip[: count - start]
        return babble
    if kind < 0.3:
        times = np.arange(count) / SAMPLE_RATE
        base = rng.choice([50, 60, 100, 120]) * rng.uniform(0.98, 1.02)
        return sum((np.sin(2 * np.pi * base * k * times) / k for k in range(1, 6)), np.zeros(count))
    slope = rng.uniform(0, 2)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (slope / 2)
    spectrum[0] = 0
    swell = 1 + rng.uniform(0, 0.8) * np.sin(2 * np.pi * rng.uniform(0.05, 2) * np.arange(count) / SAMPLE_RATE)
    return np.fft.irfft(spectrum, count) * swell


def at_snr(samples: Samples, background: NDArray[np.float64], snr_db: float) -> Samples:
    """Mix speech and background at a signal-to-noise ratio."""
    power = float(np.square(background).mean()) + 1e-12
    scale = np.sqrt(float(np.square(samples).mean()) / power) * 10 ** (-snr_db / 20)
    mixed: NDArray[np.float64] = samples + scale * background
    return mixed.astype(np.float32)


def at_level(samples: Samples, dbfs: float) -> Samples:
    """Scale to an RMS level in dBFS, and clip at full scale."""
    rms = np.sqrt(float(np.square(samples).mean())) + 1e-7
    scaled: NDArray[np.float64] = samples * (10 ** (dbfs / 20) / rms)
    return np.clip(scaled, -1, 1).astype(np.float32)


def mu_law(samples: NDArray[np.floating]) -> NDArray[np.floating]:
    """Quantise as G.711 mu-law does."""
    packed = np.sign(samples) * np.log1p(255 * np.abs(samples).clip(0, 1)) / np.log1p(255)
    packed = np.round(packed * 127) / 127
    unpacked: NDArray[np.floating] = np.sign(packed) * np.expm1(np.abs(packed) * np.log1p(255)) / 255
    return unpacked


def throat(rng: Generator, mels: torch.Tensor) -> torch.Tensor:
    """Stretch the mel axis of each item, as another vocal tract length does; (batch, mels, frames)."""
    bands = mels.shape[1]
    places = np.arange(bands)
    warps = []
    for _ in range(len(mels)):
        sources = np.clip(places * rng.uniform(0.92, 1.09), 0, bands - 1.001)
        low = sources.astype(int)
        warp = np.zeros((bands, bands), np.float32)
        warp[places, low], warp[places, low + 1] = 1 - (sources - low), sources - low
        warps.append(warp)
    return torch.from_numpy(np.stack(warps)) @ mels


def masked(rng: Generator, mels: torch.Tensor) -> torch.Tensor:
    """Mask a few bands and time spans of each item (SpecAugment); (batch, mels, frames)."""
    for item in mels:
        for _ in range(rng.integers(0, 3)):
            width = int(rng.integers(1, 13))
            low = int(rng.integers(0, item.shape[0] - width))
            item[low : low + width] = item.mean()
        for _ in range(rng.integers(0, 1 + item.shape[1] // 150)):
            width = int(rng.integers(1, 16))
            start = int(rng.integers(0, item.shape[1] - width))
            item[:, start : start + width] = item.mean()
    return mels
