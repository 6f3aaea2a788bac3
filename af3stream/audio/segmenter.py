"""Cut samples into utterances and windows. Every sample is in a window or in a skipped range.

The delay from the last sample of an event to the event is:

- ``SpeechStarted``: the time of ``min_speech_ms`` of voice, at most 300 ms
- ``SpeechStopped``, ``Utterance``: ``pause_ms`` after the last voiced frame; an utterance that is cut: none
- ``Window``: that of the pause which closes it; or ``gap_max_s`` + 300 ms + ``speech_pad_ms`` after its last activity;
  or none, if it is cut at its limit
- ``Skipped``: at most 1 s + 300 ms + ``speech_pad_ms``, if no window is open

The 20 ms of a frame are added to each. After a flush there is no delay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Event, Skipped, Span, SpeechStarted, SpeechStopped, Utterance, Window
from af3stream.audio.history import FrameHistory, SampleBuffer
from af3stream.audio.pcm import Samples
from af3stream.audio.utterance_cutter import UtteranceCutter
from af3stream.audio.vad import Frame, VoiceDetector
from af3stream.audio.window_cutter import WindowCutter
from af3stream.config import AudioConfig
from af3stream.errors import ConfigError

Mode = Literal["speech", "everything"]

BLOCK = SAMPLE_RATE  # samples processed before old ones are released
MIN_LIMIT_S = 2  # more than the 1.3 s that an utterance can reach back


class Segmenter:
    """Cut the timeline of one session into utterances and windows as it arrives.

    The events depend on the samples and on the positions of flushes, not on chunking. Utterances are in order and do
    not overlap. Windows and ``Skipped`` are in order and cover the timeline without a gap. Utterances and windows are
    independent: a window may end inside an utterance.

    Args:
        config: the rules.
        mode: ``speech`` keeps the audio in and around utterances; ``everything`` also keeps other loud audio.
        window_max_s: the longest window of the model, in seconds. It limits utterances too.

    Raises:
        ConfigError: if the longest window or utterance is shorter than 2 s.
    """

    def __init__(self, config: AudioConfig, mode: Mode, window_max_s: float) -> None:
        if min(window_max_s, config.utterance_max_s) < MIN_LIMIT_S:
            raise ConfigError(
                f"the longest window is {window_max_s} s and the longest utterance {config.utterance_max_s} s, "
                f"expected at least {MIN_LIMIT_S} s"
            )
        window_max = int(window_max_s * SAMPLE_RATE)
        utterance_max = min(int(config.utterance_max_s * SAMPLE_RATE), window_max)
        self._detector = VoiceDetector(config.vad_level, config.silence_dbfs)
        self._frames = FrameHistory()
        self._samples = SampleBuffer()
        self._utterances = UtteranceCutter(config, utterance_max, self._frames)
        self._windows = WindowCutter(config, mode == "everything", window_max, self._utterances.look_back, self._frames)
        self._utterance_count = self._window_count = 0
        self._pad = config.speech_pad_ms * SAMPLE_RATE // 1_000
        self._decided = 0  # the end of the last frame
        self._settled = 0

    @property
    def position(self) -> int:
        """Number of samples processed."""
        return self._samples.end

    @property
    def settled(self) -> int:
        """The position before which everything is decided: no utterance or window can begin before it."""
        return self._settled

    @property
    def open_utterance(self) -> Span | None:
        """The open utterance, as if it ended now; ``None`` if there is none."""
        return self._utterances.open

    @property
    def pause(self) -> int:
        """How many samples of the open utterance's end are unvoiced so far; 0 if none is open."""
        return self._utterances.pause

    def pausing(self, pause: int) -> Span | None:
        """Return the open utterance as it will be if its pause holds, once the pause has lasted ``pause`` samples.

        It is ``None`` until all that belongs to the utterance is there, ``speech_pad_ms`` after its last voiced frame.
        """
        return self.open_utterance if self._utterances.pause >= max(pause, self._pad) else None

    @property
    def open_window(self) -> Span | None:
        """The open window, up to its last activity; ``None`` if there is none."""
        return self._windows.open

    def read(self, start: int, end: int) -> Samples:
        """Return samples of an open span, (end - start,) float32.

        Raises:
            IndexError: if some of them are not held.
        """
        return self._samples.read(start, end)

    def push(self, samples: Samples) -> list[Event]:
        """Process ``samples`` (n,) float32 in [-1, 1].

        Returns:
            New events: those of utterances in timeline order, and those of windows in timeline order.
        """
        events: list[Event] = []
        for at in range(0, len(samples), BLOCK):
            block = samples[at : at + BLOCK]
            self._samples.append(block)
            events += self._step(self._detector.push(block))
            self._release()
        return events

    def flush(self) -> list[Event]:
        """Close the open utterance and window. Windows and ``Skipped`` then cover [0, position).

        If speech continues, a new utterance begins exactly at the end of the old one. The padding before a new
        utterance may reach back over the flush; a window may not.
        """
        events = self._step(self._detector.flush())
        events += self._utterance_events(self._utterances.finish())
        events += self._window_events(self._windows.finish(self._decided))
        self._settled = self._decided
        self._release()
        return events

    def _step(self, frames: list[Frame]) -> list[Event]:
        events: list[Event] = []
        for frame in frames:
            self._frames.append(frame)
            self._decided = frame.end
            speech = self._utterances.step(frame)
            events += self._utterance_events(speech)
            events += self._window_events(self._windows.step(frame, speech, self._utterances.open))
            self._settled = max(self._settled, frame.end - self._utterances.look_back)
        return events

    def _utterance_events(self, decided: list[SpeechStarted | SpeechStopped | Span]) -> Iterator[Event]:
        for event in decided:
            if isinstance(event, Span):
                samples = self.read(event.start, event.end)
                yield Utterance(self._utterance_count, event.start, event.end, samples)
                self._utterance_count += 1
            else:
                yield event

    def _window_events(self, decided: list[Span | Skipped]) -> Iterator[Event]:
        for event in decided:
            if isinstance(event, Span):
                yield Window(self._window_count, event.start, event.end, self.read(event.start, event.end))
                self._window_count += 1
            else:
                yield event

    def _release(self) -> None:
        """Drop samples and frames that neither an open span nor a new utterance can need."""
        starts = [span.start for span in (self._utterances.open, self._windows.open) if span]
        oldest = min([self._decided - self._utterances.look_back, *starts])
        self._samples.release(oldest)
        self._frames.release(oldest)
