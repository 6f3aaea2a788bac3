"""Live captions the way most live servers make them with Whisper: a growing buffer, transcribed again and again.

What WhisperLive and whisper_streaming share: all audio since the last cut is transcribed again once a second; words
that two transcriptions in a row agree on are committed (LocalAgreement-2); a buffer longer than 15 s is cut at the end
of the last segment whose words are committed. Decoding is greedy, without fallback: as cheap as it gets.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from af3stream.engine.contract import Samples
from bench.common import RATE

EVERY_S: Final = 1.0
TRIM_S: Final = 15.0
FULL_S: Final = 30.0  # a buffer whose words nobody agrees on is cut here


@dataclass(slots=True)
class Growing:
    """One stream.

    Attributes:
        passes: of each transcription, the end of what it heard and when it was done, seconds since the stream began.
        committed: words, each with its end in seconds of the stream.
        commits: of each transcription that committed something, the end of the last word and when.
    """

    samples: Samples
    start: int = 0
    passes: list[tuple[float, float]] = field(default_factory=list)
    committed: list[tuple[float, str]] = field(default_factory=list)
    commits: list[tuple[float, float]] = field(default_factory=list)
    _before: list[tuple[float, str]] = field(default_factory=list)

    @property
    def heard(self) -> int:
        """Samples that the last transcription reached."""
        return round(self.passes[-1][0] * RATE) if self.passes else 0

    def transcribe(self, model: Any, end: int, began: float) -> None:
        """Hear the buffer up to sample ``end``."""
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
    """Hear streams of one length at the pace of speech; whichever waits longest is transcribed next."""
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
    """From the end of each stretch of speech until a transcription that heard all of it was done.

    It does not wait for the words to be committed, which takes one more transcription.
    """
    return [next(done for heard, done in one.passes if heard >= end) - end for end in ends]
