"""Measure and draw the level of a block of audio."""

from __future__ import annotations

from typing import Final

import numpy as np

FLOOR_DBFS: Final = -60.0


def level_dbfs(pcm: bytes) -> float:
    """Return the RMS level of 16-bit samples in dB relative to a full-scale square wave, at least ``FLOOR_DBFS``."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64) / 32_768  # (n,)
    power = float(np.mean(samples**2)) if len(samples) else 0.0
    return max(FLOOR_DBFS, 10 * float(np.log10(power))) if power else FLOOR_DBFS


def meter(dbfs: float, cells: int) -> str:
    """Draw a level as a bar of ``cells`` characters, with eight steps a character."""
    eighths = round((1 - dbfs / FLOOR_DBFS) * cells * 8)
    whole, rest = divmod(min(max(eighths, 0), cells * 8), 8)
    return ("█" * whole + " ▏▎▍▌▋▊▉"[rest])[:cells].ljust(cells)
