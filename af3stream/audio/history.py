"""Keep the newest samples and frames, as long as an open or new utterance or window may need them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.pcm import Samples
from af3stream.audio.vad import Frame

SMOOTHED = 5  # frames: energy is averaged over 100 ms to find the quietest place
MIN_PIECE = SAMPLE_RATE // 10  # samples: no cut leaves less than 0.1 s on either side


class SampleBuffer:
    """Hold the samples from ``start`` to ``end``, in at most about twice the memory that they need."""

    def __init__(self) -> None:
        self.start = self.end = 0
        self._data: Samples = np.zeros(SAMPLE_RATE, np.float32)
        self._origin = 0  # the position of _data[0]

    def append(self, samples: Samples) -> None:
        """Append ``samples`` (n,) float32 at ``end``."""
        end = self.end + len(samples)
        if end - self._origin > len(self._data):
            data = np.zeros(max(SAMPLE_RATE, 2 * (end - self.start)), np.float32)
            data[: self.end - self.start] = self._data[self.start - self._origin : self.end - self._origin]
            self._data, self._origin = data, self.start
        self._data[self.end - self._origin : end - self._origin] = samples
        self.end = end

    def release(self, before: int) -> None:
        """Drop the samples before the position ``before``."""
        self.start = max(self.start, min(before, self.end))

    def read(self, start: int, end: int) -> Samples:
        """Return a copy of the samples in [start, end), (end - start,) float32.

        Raises:
            IndexError: if some of them are not held.
        """
        if not self.start <= start <= end <= self.end:
            raise IndexError(f"samples {start} to {end} asked for, {self.start} to {self.end} held")
        return self._data[start - self._origin : end - self._origin].copy()


class FrameHistory:
    """Hold the frames since the start of the oldest open span."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, frame: Frame) -> None:
        """Append the next frame."""
        self._frames.append(frame)

    def release(self, before: int) -> None:
        """Drop the frames that end at or before the position ``before``."""
        while self._frames and self._frames[0].end <= before:
            self._frames.popleft()

    def since(self, position: int) -> Iterator[Frame]:
        """Yield the frames that end after ``position``, oldest first."""
        return (frame for frame in self._frames if frame.end > position)

    def quietest(self, low: int, high: int) -> int:
        """Return the middle of the quietest 100 ms in [low, high], or the middle of a shorter range.

        Of equally quiet places it is the first one.
        """
        frames = [frame for frame in self.since(low) if low <= frame.start and frame.end <= high]
        runs = len(frames) - SMOOTHED + 1
        if runs < 1:
            return (low + high) // 2
        power = np.array([frame.rms**2 for frame in frames])
        # Each sum is computed separately: differences of a running sum would not be exactly zero for digital silence.
        quiet = int(np.argmin(sum(power[shift : shift + runs] for shift in range(SMOOTHED))))
        return (frames[quiet].start + frames[quiet + SMOOTHED - 1].end) // 2


def last_third(start: int, limit: int) -> tuple[int, int]:
    """Return the range [low, high] in which a piece that begins at ``start`` is cut; ``limit`` is its most samples."""
    return start + 2 * limit // 3, start + limit - MIN_PIECE
