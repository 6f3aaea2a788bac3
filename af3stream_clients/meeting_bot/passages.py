"""Split the recording into passages to ask about, at pauses, so that no word is split."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from af3stream_clients.meeting_bot.recording import RATE

SHORTEST_S: Final = 25.0
LONGEST_S: Final = 45.0  # the passage ends here if there is no pause
PAUSE_S: Final = 0.5
BLOCK_S: Final = 0.02
QUIET: Final = 0.1  # times the level of speech, which is the 90th percentile


def find_passage_end(samples: NDArray[np.int16]) -> int | None:
    """Find the end of a passage: the middle of the first pause after its shortest length.

    Args:
        samples: of the passage so far, (n,) at 16 kHz.

    Returns:
        Length of the passage in samples; ``None`` if more samples are needed.
    """
    longest, block = round(LONGEST_S * RATE), round(BLOCK_S * RATE)
    if len(samples) < SHORTEST_S * RATE:
        return None
    blocks = samples[: min(len(samples), longest) // block * block].reshape(-1, block).astype(np.float32)
    level = np.sqrt(np.square(blocks).mean(axis=1))
    quiet = level <= QUIET * np.quantile(level, 0.9)
    needed = round(PAUSE_S / BLOCK_S)
    run = 0
    for index in range(round(SHORTEST_S / BLOCK_S) - needed, len(quiet)):
        run = run + 1 if quiet[index] else 0
        if run == needed:
            return int((index + 1 - needed // 2) * block)
    return longest if len(samples) >= longest else None
