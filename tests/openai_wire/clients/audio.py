"""A recorded sentence as the clients send it: 16-bit PCM, mono."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RECORDING = next((Path(__file__).parents[2] / "recordings").glob("*0880.wav"))


def blocks(rate: int, block_s: float, pause_s: float = 1.0) -> Iterator[bytes]:
    """The sentence and a pause, in blocks."""
    with wave.open(str(RECORDING)) as file:
        recorded, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")
    at = np.arange(int(len(samples) * rate / recorded)) * recorded / rate
    spoken = np.interp(at, np.arange(len(samples)), samples).astype("<i2").tobytes()
    pcm = spoken + bytes(2 * int(rate * pause_s))
    size = 2 * int(rate * block_s)
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size]
