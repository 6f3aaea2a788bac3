"""The recent past: the samples and frames that something open, or about to begin, may still need."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.pcm import Samples
from af3stream.audio.vad import Frame

SMOOTHED = 5  # frames: energy is averaged over 100 ms before the quietest place is chosen
MIN_PIECE = SAMPLE_RATE // 10  # samples: no cut leaves less than 0.1 s on either side


class SampleBuffer:
    """The samples from ``start`` to ``end``; holds at most about twice what it must."""

    def __init__(self) -> None:
        self.start = self.end = 0
        self._data: Samples = np.zeros(SAMPLE_RATE, np.float32)
        self._origin = 0  # the position of _data[0]

    def append(self, samples: Samples) -> None:
        """Take in ``samples`` (n,) float32 at ``end``."""
        end = self.end + len(samples)
        if end - self._origin > len(self._data):
            data = np.zeros(max(SAMPLE_RATE, 2 * (end - self.start)), np.float32)
            data[: self.end - self.start] = self._data[self.start - self._origin : self.end - self._origin]
            self._data, self._origin = data, self.start
        self._data[self.end - self._origin : end - self._origin] = samples
        self.end = end

    def release(self, before: int) -> None:
        """Forget everything before the position ``before``."""
        self.start = max(self.start, min(before, self.end))

    def read(self, start: int, end: int) -> Samples:
        """A copy of [start, end).  # (end - start,) float32

        Raises:
            IndexError: when some of it is no longer, or not yet, held.
        """
        if not self.start <= start <= end <= self.end:
            raise IndexError(f"samples {start} to {end} asked for, {self.start} to {self.end} held")
        return self._data[start - self._origin : end - self._origin].copy()


class FrameHistory:
    """The frames since the oldest open start."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, frame: Frame) -> None:
        """Take in the next frame."""
        self._frames.append(frame)

    def release(self, before: int) -> None:
        """Forget the frames that end at or before the position ``before``."""
        while self._frames and self._frames[0].end <= before:
            self._frames.popleft()

    def since(self, position: int) -> Iterator[Frame]:
        """The frames that end after ``position``, oldest first."""
        return (frame for frame in self._frames if frame.end > position)

    def quietest(self, low: int, high: int) -> int:
        """The middle of the quietest 100 ms within [low, high], the first of equals; its middle if it is shorter."""
        frames = [frame for frame in self.since(low) if low <= frame.start and frame.end <= high]
        runs = len(frames) - SMOOTHED + 1
        if runs < 1:
            return (low + high) // 2
        power = np.array([frame.rms**2 for frame in frames])
        # Added run by run, never as differences of a running sum: digital silence stays exactly zero.
        quiet = int(np.argmin(sum(power[shift : shift + runs] for shift in range(SMOOTHED))))
        return (frames[quiet].start + frames[quiet + SMOOTHED - 1].end) // 2


def last_third(start: int, limit: int) -> tuple[int, int]:
    """Where a piece that begins at ``start`` and may last ``limit`` samples is cut, as [low, high]."""
    return start + 2 * limit // 3, start + limit - MIN_PIECE
