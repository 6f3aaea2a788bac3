"""Decide from frames and utterances where windows begin and end, and which ranges are skipped."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Skipped, Span, SpeechStarted, SpeechStopped
from af3stream.audio.history import MIN_PIECE, FrameHistory, last_third
from af3stream.audio.vad import Frame
from af3stream.config import AudioConfig

SKIP_STEP = SAMPLE_RATE  # samples: silence is skipped a second at a time
STILL = sys.maxsize  # the end of a pause that is still open


class WindowCutter:
    """Track at most one open window over the frames. Windows and skipped ranges cover [0, settled).

    A window starts where activity starts, and may hold gaps of up to ``gap_max_s``. It closes

    - at a pause, if it is at least ``window_min_s`` long;
    - at the end of its last activity, when a longer gap is certain;
    - if activity continues past ``limit``: it is cut in the latest pause of its last third, or else at the quietest
      place there, and the next window begins at the cut.

    A window shorter than 0.1 s is extended into the silence after it. If a flush leaves no silence, it is skipped.

    Args:
        everything: besides utterances, each loud frame and the ``speech_pad_ms`` before it count as activity.
        limit: the most samples of one window.
        look_back: how many samples before the newest frame an utterance can begin.
        history: the frames since the start of the open window, the current one included.
    """

    def __init__(
        self, config: AudioConfig, everything: bool, limit: int, look_back: int, history: FrameHistory
    ) -> None:
        self._everything = everything
        self._limit, self._look_back = limit, look_back
        self._pad = config.speech_pad_ms * SAMPLE_RATE // 1_000
        self._min = max(round(config.window_min_s * SAMPLE_RATE), MIN_PIECE)
        self._gap_max = round(config.gap_max_s * SAMPLE_RATE)
        self._history = history
        self._pauses = [Span(0, STILL)]  # between utterances, as far as they overlap the open window; the newest last
        self._start: int | None = None  # of the open window
        self._active_end = 0  # of the last activity
        self._settled = 0  # everything before this position is in a closed window or skipped

    @property
    def open(self) -> Span | None:
        """The open window, as if it ended with its last activity; ``None`` if there is none."""
        return None if self._start is None else Span(self._start, self._active_end)

    def step(
        self, frame: Frame, speech: list[SpeechStarted | SpeechStopped | Span], utterance: Span | None
    ) -> list[Span | Skipped]:
        """Process a frame, its utterance events and the open utterance; return windows and skipped ranges."""
        stopped = self._note(speech)
        events: list[Span | Skipped] = []
        for activity in self._activities(frame, speech, utterance):
            events += self._extend(activity)
        events += self._cut()
        if stopped is not None:
            events += self._close_at_pause(stopped)
        if utterance is None:
            events += self._settle(frame.end)
        return events

    def finish(self, position: int) -> list[Span | Skipped]:
        """Close the open window, and decide everything before ``position``, the end of the last frame."""
        self._pauses = [Span(position, STILL)]
        return [*self._close(position), *self._skip(position)]

    def _note(self, speech: list[SpeechStarted | SpeechStopped | Span]) -> int | None:
        """Record the pauses, and return where an utterance stopped, if one did."""
        stopped = None
        for event in speech:
            match event:
                case SpeechStopped(at):
                    self._pauses.append(Span(at, STILL))
                    stopped = at
                case SpeechStarted(at):
                    self._pauses[-1] = Span(self._pauses[-1].start, at)
        return stopped

    def _activities(
        self, frame: Frame, speech: list[SpeechStarted | SpeechStopped | Span], utterance: Span | None
    ) -> Iterator[Span]:
        """Yield the ranges of activity: closed and open utterances, and loud frames.

        The range of a loud frame within an open utterance begins with that utterance.
        """
        yield from (event for event in speech if isinstance(event, Span))
        if utterance is not None:
            yield utterance
        if self._everything and frame.loud:
            yield Span(frame.start - self._pad if utterance is None else utterance.start, frame.end)

    def _extend(self, activity: Span) -> list[Span | Skipped]:
        events: list[Span | Skipped] = []
        if self._start is not None and activity.start - self._active_end > self._gap_max:
            events += self._close(activity.end)
        self._active_end = max(self._active_end, activity.end)
        if self._start is None:
            self._start = max(activity.start, self._settled)
            events += self._skip(self._start)
        return events

    def _cut(self) -> list[Span | Skipped]:
        windows: list[Span | Skipped] = []
        while self._start is not None and self._active_end - self._start > self._limit:
            cut = self._place(*last_third(self._start, self._limit))
            windows.append(self._emit(self._start, cut))
            self._start = cut
        return windows

    def _place(self, low: int, high: int) -> int:
        for pause in reversed(self._pauses):
            if pause.start <= high and pause.end >= low:
                return self._history.quietest(max(pause.start, low), min(pause.end, high))
        return self._history.quietest(low, high)

    def _close_at_pause(self, at: int) -> list[Span | Skipped]:
        if self._start is None or at - self._start < self._min:
            return []
        events: list[Span | Skipped] = [self._emit(self._start, at)]
        self._start = None
        if self._active_end > at:  # sound continues after the speech
            loud = next(frame for frame in self._history.since(at) if frame.loud)
            events += self._extend(Span(loud.start - self._pad, self._active_end))
        return events

    def _settle(self, position: int) -> list[Span | Skipped]:
        """Close a window or skip silence, if no utterance is open."""
        certain = position - self._look_back  # no utterance can begin before this position
        if self._start is not None:
            return self._close(position) if certain - self._active_end > self._gap_max else []
        return self._skip(certain) if certain - self._settled >= SKIP_STEP else []

    def _close(self, position: int) -> list[Span | Skipped]:
        """Close the open window at the end of its last activity."""
        start, self._start = self._start, None
        if start is None:
            return []
        end = max(self._active_end, min(start + MIN_PIECE, position))
        return [self._emit(start, end)] if end - start >= MIN_PIECE else []

    def _emit(self, start: int, end: int) -> Span:
        self._settled = end
        self._pauses = [pause for pause in self._pauses if pause.end >= end]
        return Span(start, end)

    def _skip(self, until: int) -> list[Span | Skipped]:
        start, self._settled = self._settled, max(self._settled, until)
        return [Skipped(start, until)] if until > start else []
