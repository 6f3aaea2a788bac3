"""How loud a block of sound is."""

from __future__ import annotations

from typing import Final

import numpy as np

FLOOR_DBFS: Final = -60.0


def level_dbfs(pcm: bytes) -> float:
    """Root mean square of 16-bit samples, in decibels below the loudest square wave; never below ``FLOOR_DBFS``."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64) / 32_768  # (n,)
    power = float(np.mean(samples**2)) if len(samples) else 0.0
    return max(FLOOR_DBFS, 10 * float(np.log10(power))) if power else FLOOR_DBFS


def meter(dbfs: float, cells: int) -> str:
    """A bar of so many characters, eight steps each."""
    eighths = round((1 - dbfs / FLOOR_DBFS) * cells * 8)
    whole, rest = divmod(min(max(eighths, 0), cells * 8), 8)
    return ("█" * whole + " ▏▎▍▌▋▊▉"[rest])[:cells].ljust(cells)
