"""Where the recording is cut into passages that are asked about: at a pause, so that no word is cut."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.meeting_bot.recording import RATE

SHORTEST_S: Final = 25.0
LONGEST_S: Final = 45.0  # cut here if nobody pauses
PAUSE_S: Final = 0.5
BLOCK_S: Final = 0.02
QUIET: Final = 0.1  # of the level of speech, which is the 90th percentile


def find_passage_end(samples: NDArray[np.int16]) -> int | None:
    """Find where a passage ends: in the middle of the first pause after its shortest length.

    Args:
        samples: of the passage, as far as it is known.  # (n,) at 16 kHz

    Returns:
        Samples of it; ``None`` while more has to be known.
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
