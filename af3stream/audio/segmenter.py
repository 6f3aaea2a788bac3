"""The segmenter: samples in, utterances and windows out, and no sample unaccounted for.

Decision delay, from the last sample concerned to the event:

- ``SpeechStarted``: as long as ``min_speech_ms`` of voice takes, at most 300 ms;
- ``SpeechStopped``, ``Utterance``: ``pause_ms`` after the last voiced frame; an utterance that is cut: at the limit;
- ``Window``: with the pause that closes it; or ``gap_max_s`` + 300 ms + ``speech_pad_ms`` after its last activity; or,
  where it is cut, when activity goes on past the limit;
- ``Skipped``: at most 1 s + 300 ms + ``speech_pad_ms``, where no window is open;

and to each a frame's 20 ms. A flush decides everything at once.
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

BLOCK = SAMPLE_RATE  # samples taken in before the past is released
MIN_LIMIT_S = 2  # more than the 1.3 s an utterance can reach back at most: none begins too long


class Segmenter:
    """One session's timeline, cut into utterances and windows as it arrives.

    The events depend on the samples and on where flushes fall, not on the chunking. Utterances are in order and do not
    overlap; windows and ``Skipped`` together are in order and tile the timeline without a gap. The two grains are
    independent: a window may be cut inside an utterance.

    Args:
        config: how audio is cut.
        mode: ``speech`` keeps what lies in and around utterances, ``everything`` also whatever is loud.
        window_max_s: the longest window the model takes, in seconds; no utterance is longer either.

    Raises:
        ConfigError: when the longest window or utterance is shorter than 2 s.
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
        """Samples taken in."""
        return self._samples.end

    @property
    def settled(self) -> int:
        """Everything before it is decided: nothing can begin there any more."""
        return self._settled

    @property
    def open_utterance(self) -> Span | None:
        """The open utterance, as it would be if it ended now."""
        return self._utterances.open

    def pausing(self, pause: int) -> Utterance | None:
        """The open utterance as it will be if its pause holds, once the pause has lasted ``pause`` samples.

        Until all that belongs to the utterance is there, ``speech_pad_ms`` after its last voiced frame, it is ``None``.
        """
        span = self._utterances.open
        if span is None or self._utterances.pause < max(pause, self._pad):
            return None
        return Utterance(self._utterance_count, span.start, span.end, self.read(span.start, span.end))

    @property
    def open_window(self) -> Span | None:
        """The open window, up to its last activity."""
        return self._windows.open

    def read(self, start: int, end: int) -> Samples:
        """Samples of an open span.  # (end - start,) float32

        Raises:
            IndexError: when some of them are not held.
        """
        return self._samples.read(start, end)

    def push(self, samples: Samples) -> list[Event]:
        """Take in ``samples`` (n,) float32 in [-1, 1]; returns what they decide, in timeline order for each grain."""
        events: list[Event] = []
        for at in range(0, len(samples), BLOCK):
            block = samples[at : at + BLOCK]
            self._samples.append(block)
            events += self._step(self._detector.push(block))
            self._release()
        return events

    def flush(self) -> list[Event]:
        """Close what is open; windows and ``Skipped`` then tile [0, position). Listening goes on.

        Speech that goes on begins a new utterance exactly where the old one ended. An utterance may still reach back
        over the flush for what comes before its first words; a window may not.
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
        """Forget what neither anything open nor an utterance yet to begin can need."""
        starts = [span.start for span in (self._utterances.open, self._windows.open) if span]
        oldest = min([self._decided - self._utterances.look_back, *starts])
        self._samples.release(oldest)
        self._frames.release(oldest)
