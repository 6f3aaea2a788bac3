"""Live captions as most servers produce them with Whisper: a growing buffer, transcribed again and again.

This is the common part of WhisperLive and whisper_streaming. All audio since the last cut is transcribed once a second.
Words on which two consecutive transcriptions agree are committed (LocalAgreement-2). A buffer longer than 15 s is cut
at the end of the last committed segment. Decoding is greedy without fallback, which is the cheapest choice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from af3stream.engine.captioning import Samples
from bench.common import RATE

EVERY_S: Final = 1.0
TRIM_S: Final = 15.0
FULL_S: Final = 30.0  # a buffer without agreement is cut here


@dataclass(slots=True)
class Growing:
    """One stream.

    Attributes:
        passes: end of the audio and time of completion of each transcription, in seconds since the start.
        committed: committed words with their ends in seconds of the stream.
        commits: end of the last word and time of each transcription that committed words.
    """

    samples: Samples
    start: int = 0
    passes: list[tuple[float, float]] = field(default_factory=list)
    committed: list[tuple[float, str]] = field(default_factory=list)
    commits: list[tuple[float, float]] = field(default_factory=list)
    _before: list[tuple[float, str]] = field(default_factory=list)

    @property
    def heard(self) -> int:
        """Number of samples that the last transcription covered."""
        return round(self.passes[-1][0] * RATE) if self.passes else 0

    def transcribe(self, model: Any, end: int, began: float) -> None:
        """Transcribe the buffer up to sample ``end``."""
        offset, done_to = self.start / RATE, self.committed[-1][0] if self.committed else 0.0
        segments = list(
            model.transcribe(
                self.samples[self.start : end],
                language="en",
                beam_size=1,
                temperature=0.0,
                word_timestamps=True,
                condition_on_previous_text=False,
            )[0]
        )
        words = [(offset + word.end, word.word.strip()) for segment in segments for word in segment.words or ()]
        fresh = [word for word in words if word[0] > done_to + 0.1]
        agreed = takewhile(lambda pair: pair[0][1] == pair[1][1], zip(fresh, self._before, strict=False))
        count = sum(1 for _ in agreed)
        self.committed += fresh[:count]
        self._before = fresh[count:]
        now = time.monotonic() - began
        self.passes.append((end / RATE, now))
        if count:
            self.commits.append((self.committed[-1][0], now))
        self._trim(end, [offset + segment.end for segment in segments])

    def _trim(self, end: int, segment_ends: list[float]) -> None:
        if end - self.start <= TRIM_S * RATE:
            return
        done_to = self.committed[-1][0] if self.committed else 0.0
        ends = [round(at * RATE) for at in segment_ends if at <= done_to]
        if ends and ends[-1] > self.start:
            self.start = ends[-1]
        elif end - self.start > FULL_S * RATE:
            self.start, self._before = end - round(TRIM_S * RATE), []


def listen(model: Any, streams: list[Samples]) -> list[Growing]:
    """Transcribe real-time streams of equal length; the stream that waits longest is next."""
    growing = [Growing(samples) for samples in streams]
    total, began = len(streams[0]), time.monotonic()
    while any(one.heard < total for one in growing):
        spoken = min(total, round((time.monotonic() - began) * RATE))
        oldest = min(growing, key=lambda one: one.heard)
        if spoken < total and spoken - oldest.heard < EVERY_S * RATE:
            time.sleep(0.01)
            continue
        oldest.transcribe(model, spoken, began)
    return growing


def lags_s(one: Growing, ends: list[float]) -> list[float]:
    """Return the time from the end of each stretch of speech to the end of the first transcription that covers it.

    The lag does not include committing the words, which takes one more transcription.
    """
    return [next(done for heard, done in one.passes if heard >= end) - end for end in ends]
