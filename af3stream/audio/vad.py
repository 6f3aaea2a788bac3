"""Detect voice: classify each frame of 20 ms as voiced or not, and measure its level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.pcm import Samples

FRAME = 320  # samples: 20 ms, one of the lengths webrtcvad takes
FULL_SCALE = 32_768


@dataclass(frozen=True, slots=True)
class Frame:
    """The samples [start, end): ``FRAME`` of them, or fewer before a flush.

    Attributes:
        voiced: webrtcvad detects voice, and the frame is loud.
        loud: the RMS is above ``silence_dbfs``.
        rms: 0 to 1, of the samples as 16-bit integers.
    """

    start: int
    end: int
    voiced: bool
    loud: bool
    rms: float


class VoiceDetector:
    """Convert samples to frames. The result depends only on the samples and the positions of flushes.

    Args:
        level: webrtcvad's aggressiveness, 0 (most frames are voiced) to 3.
        silence_dbfs: a frame with this RMS or a lower one is silence, whatever webrtcvad detects.
    """

    def __init__(self, level: int, silence_dbfs: float) -> None:
        self._vad = webrtcvad.Vad(level)
        self._silence = 10 ** (silence_dbfs / 20)  # RMS, 0 to 1
        self._rest = np.zeros(0, np.int16)  # samples that do not fill a frame yet
        self._position = 0  # where the next frame starts

    def push(self, samples: Samples) -> list[Frame]:
        """Process ``samples`` (n,) float32 in [-1, 1], and return the frames that they complete."""
        pcm = np.concatenate([self._rest, _to_int16(samples)])
        whole = len(pcm) // FRAME * FRAME
        self._rest = pcm[whole:]
        return [self._frame(frame) for frame in pcm[:whole].reshape(-1, FRAME)]

    def flush(self) -> list[Frame]:
        """Return the remaining samples as a frame, classified as if silence followed; nothing if there are none."""
        rest, self._rest = self._rest, self._rest[:0]
        return [self._frame(rest)] if len(rest) else []

    def _frame(self, pcm: NDArray[np.int16]) -> Frame:
        start, self._position = self._position, self._position + len(pcm)
        # Integer sums are exact, so the RMS does not depend on chunking.
        rms = math.sqrt(int(np.square(pcm, dtype=np.int64).sum()) / len(pcm)) / FULL_SCALE
        voice = self._vad.is_speech(pcm.tobytes().ljust(2 * FRAME, b"\0"), SAMPLE_RATE)
        loud = rms > self._silence
        return Frame(start, self._position, voiced=voice and loud, loud=loud, rms=rms)


def _to_int16(samples: Samples) -> NDArray[np.int16]:
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
