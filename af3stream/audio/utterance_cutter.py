"""The utterance rules: frames in, the beginnings and ends of speech out."""

from __future__ import annotations

from collections import deque

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Span, SpeechStarted, SpeechStopped
from af3stream.audio.history import FrameHistory, last_third
from af3stream.audio.vad import Frame
from af3stream.config import AudioConfig

ONSET = 300 * SAMPLE_RATE // 1_000  # samples looked back over to decide that speech began


class UtteranceCutter:
    """At most one open utterance, carried over the frames.

    An utterance begins at a voiced frame, once ``min_speech_ms`` of the last 300 ms are voiced, and starts
    ``speech_pad_ms`` before the first of those frames that the previous utterance does not hold, never before its end.
    It ends when ``pause_ms`` pass unvoiced, ``speech_pad_ms`` after its last voiced frame. One whose voice goes on past
    ``limit`` samples is cut at the quietest place of its last third, and the next one begins exactly there, with that
    voice.

    Args:
        limit: the most samples of one utterance.
        history: the frames, this one included, since the open utterance's start.
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
        """How many samples before the frame that decides it an utterance can start."""
        return ONSET + self._pad

    @property
    def open(self) -> Span | None:
        """The open utterance, as it would be if it ended now."""
        if self._start is None:
            return None
        return Span(self._start, min(self._voiced_end + self._pad, self._position, self._start + self._limit))

    @property
    def pause(self) -> int:
        """How many samples of the open utterance's end are unvoiced so far; 0 if none is open."""
        return 0 if self._start is None else self._position - self._voiced_end

    def step(self, frame: Frame) -> list[SpeechStarted | SpeechStopped | Span]:
        """Take in the next frame; returns what it decides, each ended utterance as a span."""
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
        """End what is open, here."""
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
