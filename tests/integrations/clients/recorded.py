"""Two recorded sentences, with a pause after each: 16-bit PCM, mono, 16 kHz, in blocks of 50 ms."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

RECORDINGS = Path(__file__).parents[2] / "recordings"
RATE = 16_000
BLOCK_BYTES = 2 * RATE // 20


def sentences() -> Iterator[list[bytes]]:
    """Each sentence, in blocks."""
    for name in ("0880", "0930"):
        (path,) = RECORDINGS.glob(f"*{name}.wav")
        with wave.open(str(path)) as file:
            pcm = file.readframes(file.getnframes()) + bytes(2 * RATE)
        yield [pcm[start : start + BLOCK_BYTES] for start in range(0, len(pcm), BLOCK_BYTES)]
