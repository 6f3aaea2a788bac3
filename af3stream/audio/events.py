"""The events of the segmenter. Positions are sample indices at 16 kHz from the session's start; ends are exclusive."""

from __future__ import annotations

from dataclasses import dataclass, field

from af3stream.audio.pcm import Samples


@dataclass(frozen=True, slots=True)
class Span:
    """A range of the timeline."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """An utterance began at ``at``, after a pause or at the start of the session."""

    at: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """An utterance ended at ``at``, because of a pause or a flush."""

    at: int


@dataclass(frozen=True, slots=True)
class Utterance:
    """A closed utterance, the unit of captions. ``index`` counts from 0."""

    index: int
    start: int
    end: int
    samples: Samples = field(compare=False, repr=False)  # (end - start,) float32


@dataclass(frozen=True, slots=True)
class Window:
    """A closed window, the unit of questions. ``index`` counts from 0."""

    index: int
    start: int
    end: int
    samples: Samples = field(compare=False, repr=False)  # (end - start,) float32


@dataclass(frozen=True, slots=True)
class Skipped:
    """A range that is in no window."""

    start: int
    end: int


Event = SpeechStarted | SpeechStopped | Utterance | Window | Skipped
