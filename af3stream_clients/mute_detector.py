"""Detect a muted microphone."""

from __future__ import annotations

from typing import Final

MUTED_S: Final = 3.0


class MuteDetector:
    """Report a microphone as muted once it delivers only zero samples; an open microphone always has some noise.

    Attributes:
        zeros_s: seconds of zero samples since the last sample that was not zero.
    """

    def __init__(self) -> None:
        self.zeros_s = 0.0

    @property
    def muted(self) -> bool:
        """Whether only zeros came for ``MUTED_S`` seconds or longer."""
        return self.zeros_s >= MUTED_S

    def add(self, pcm: bytes, seconds: float) -> None:
        """Take the next block of samples, which lasts ``seconds``."""
        self.zeros_s = 0.0 if any(pcm) else self.zeros_s + seconds
