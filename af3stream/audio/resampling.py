"""Resample any rate to 16 kHz. A reader that starts in the middle of a stream gets the same samples."""

from __future__ import annotations

from math import ceil, gcd
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from af3stream.audio import SAMPLE_RATE

Mono = NDArray[np.float32]  # (n,)

STRETCH_S: Final = 30
STRETCH: Final = STRETCH_S * SAMPLE_RATE  # samples
REACH_S: Final = 0.05  # the filter of soxr's HQ reaches less than 12 ms to each side


class Resampler:
    """Resample mono float32 at ``rate`` to mono float32 at 16 kHz, in stretches of 30 s.

    Each stretch has its own soxr stream (HQ), which also gets the frames beside the stretch that the filter reaches. So
    a sample depends only on the frames around it, and not on the start of the stream or on chunking. A stream holds
    back up to 0.12 s. At the end of a stretch, at a rate that shares no factor with 16 kHz, it holds back up to 1 s.

    Attributes:
        frame: the next frame to pass in.
        position: the next sample that is returned.

    Args:
        stretch: the index of the first stretch needed; ``frame`` and ``position`` then tell where it begins.
    """

    def __init__(self, rate: int, stretch: int = 0) -> None:
        period = rate // gcd(rate, SAMPLE_RATE)  # frames that become whole samples
        self._rate = rate
        self._beside = period * ceil(REACH_S * rate / period)  # frames passed in on each side of a stretch
        self._recent: list[Mono] = []  # from `_beside` before the stretch's end on
        self.position = stretch * STRETCH
        self.frame = max(0, stretch * STRETCH_S * rate - self._beside)
        self._begin(stretch)

    def push(self, mono: Mono) -> Mono:
        """Resample frames (n,) float32, and return the samples that are ready, (m,) float32."""
        ready = []
        while self.frame + len(mono) >= self._end + self._beside:
            fitting = self._end + self._beside - self.frame
            ready += [self._feed(mono[:fitting]), *self._turn()]
            mono = mono[fitting:]
        return np.concatenate([*ready, self._feed(mono)])

    def finish(self) -> Mono:
        """Return the samples that are held back, (m,) float32. The resampler must not be used after this."""
        ready = self._turn() if self.frame > self._end else []
        return np.concatenate([*ready, self._feed(np.zeros(0, np.float32), last=True)])

    def _begin(self, stretch: int) -> None:
        self._stretch = stretch
        self._end = (stretch + 1) * STRETCH_S * self._rate  # frame
        self._early = self._beside * SAMPLE_RATE // self._rate if stretch else 0  # samples before the stretch
        self._stream = soxr.ResampleStream(self._rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def _feed(self, mono: Mono, *, last: bool = False) -> Mono:
        self.frame += len(mono)
        kept = min(len(mono), self.frame - (self._end - self._beside))
        if kept > 0:
            self._recent.append(mono[len(mono) - kept :])
        return self._resample(mono, last)

    def _turn(self) -> list[Mono]:
        """Return the rest of this stretch, and the beginning of the next."""
        rest = self._resample(np.zeros(0, np.float32), last=True)
        heard, self._recent = np.concatenate(self._recent), []
        self._begin(self._stretch + 1)
        return [rest, self._resample(heard, last=False)]

    def _resample(self, mono: Mono, last: bool) -> Mono:
        samples: Mono = self._stream.resample_chunk(mono, last=last)
        early = min(self._early, len(samples))
        self._early -= early
        own = samples[early : early + (self._stretch + 1) * STRETCH - self.position]
        self.position += len(own)
        return own
