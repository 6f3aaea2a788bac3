"""Decide from frames where utterances begin and end."""

from __future__ import annotations

from collections import deque

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Span, SpeechStarted, SpeechStopped
from af3stream.audio.history import FrameHistory, last_third
from af3stream.audio.vad import Frame
from af3stream.config import AudioConfig

ONSET = 300 * SAMPLE_RATE // 1_000  # samples that are examined to decide that speech began


class UtteranceCutter:
    """Track at most one open utterance over the frames.

    An utterance begins at a voiced frame, once ``min_speech_ms`` of the last 300 ms are voiced. It starts
    ``speech_pad_ms`` before the first of those frames that is not in the previous utterance, and never before the end
    of that one. It ends after ``pause_ms`` without voice, ``speech_pad_ms`` after its last voiced frame. If voice
    continues past ``limit`` samples, the utterance is cut at the quietest place of its last third, and the next one
    begins there.

    Args:
        limit: the most samples of one utterance.
        history: the frames since the start of the open utterance, the current one included.
    """

    def __init__(self, config: AudioConfig, limit: int, history: FrameHistory) -> None:
        self._min_speech, self._pad, self._pause = (
            ms * SAMPLE_RATE // 1_000 for ms in (config.min_speech_ms, config.speech_pad_ms, config.pause_ms)
        )
        self._limit = limit
        self._history = history
        self._recent: deque[Frame] = deque()  # the frames within the last 300 ms
        self._start: int | None = None  # of the open utterance
        self._voiced_end = 0  # of the last voiced frame
        self._previous_end = 0  # of the last closed utterance
        self._position = 0

    @property
    def look_back(self) -> int:
        """The most samples between the start of an utterance and the frame that decides it."""
        return ONSET + self._pad

    @property
    def open(self) -> Span | None:
        """The open utterance, as if it ended now; ``None`` if there is none."""
        if self._start is None:
            return None
        return Span(self._start, min(self._voiced_end + self._pad, self._position, self._start + self._limit))

    @property
    def pause(self) -> int:
        """How many samples of the open utterance's end are unvoiced so far; 0 if none is open."""
        return 0 if self._start is None else self._position - self._voiced_end

    def step(self, frame: Frame) -> list[SpeechStarted | SpeechStopped | Span]:
        """Process the next frame, and return its events; a closed utterance is a span."""
        self._position = frame.end
        self._recent.append(frame)
        while self._recent[0].start < frame.end - ONSET:
            self._recent.popleft()
        if frame.voiced:
            self._voiced_end = frame.end
            began = self._begin() if self._start is None else []
            return [*began, *self._cut()]
        if frame.end - self._voiced_end >= self._pause:
            return self.finish()
        return []

    def finish(self) -> list[SpeechStarted | SpeechStopped | Span]:
        """Close the open utterance, and return its events."""
        span = self.open
        if span is None:
            return []
        self._start, self._previous_end = None, span.end
        return [SpeechStopped(span.end), span]

    def _begin(self) -> list[SpeechStarted]:
        voiced = [frame for frame in self._recent if frame.voiced]
        if sum(frame.end - frame.start for frame in voiced) < self._min_speech:
            return []
        first = next(frame for frame in voiced if frame.end > self._previous_end)
        self._start = max(first.start - self._pad, self._previous_end)
        return [SpeechStarted(self._start)]

    def _cut(self) -> list[Span]:
        spans = []
        while self._start is not None and self._voiced_end - self._start > self._limit:
            cut = self._history.quietest(*last_third(self._start, self._limit))
            spans.append(Span(self._start, cut))
            self._start = self._previous_end = cut
        return spans
