"""What cutting the timeline gives. Positions are sample indices at 16 kHz from the session's start, ends exclusive."""

from __future__ import annotations

from dataclasses import dataclass, field

from af3stream.audio.pcm import Samples


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the timeline."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """An utterance began at ``at`` after a pause (or at the very beginning)."""

    at: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The utterance that ends at ``at`` is followed by a pause, or was ended by a flush."""

    at: int


@dataclass(frozen=True, slots=True)
class Utterance:
    """A closed utterance, the unit of captions: the ``index``-th from 0."""

    index: int
    start: int
    end: int
    samples: Samples = field(compare=False, repr=False)  # (end - start,) float32


@dataclass(frozen=True, slots=True)
class Window:
    """A closed window, the unit of questions: the ``index``-th from 0."""

    index: int
    start: int
    end: int
    samples: Samples = field(compare=False, repr=False)  # (end - start,) float32


@dataclass(frozen=True, slots=True)
class Skipped:
    """A stretch that no window holds."""

    start: int
    end: int


Event = SpeechStarted | SpeechStopped | Utterance | Window | Skipped
