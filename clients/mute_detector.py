"""Whether a microphone is muted."""

from __future__ import annotations

from typing import Final

MUTED_S: Final = 3.0


class MuteDetector:
    """Push in blocks of samples, pull out :attr:`on`: nothing but zeros came, and no open microphone is so quiet.

    Attributes:
        zeros_s: seconds of zeros so far.
    """

    def __init__(self) -> None:
        self.zeros_s = 0.0

    @property
    def muted(self) -> bool:
        """Whether it is muted, or as good as that."""
        return self.zeros_s >= MUTED_S

    def add(self, pcm: bytes, seconds: float) -> None:
        """The next block, and how long it is."""
        self.zeros_s = 0.0 if any(pcm) else self.zeros_s + seconds
