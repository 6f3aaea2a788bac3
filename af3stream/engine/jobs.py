"""What a session asks of the engine, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

from af3stream.engine.contract import Completion, Hypothesis, Part, Samples, Sound


@dataclass(frozen=True, eq=False, slots=True)
class CaptionJob:
    """Hear one utterance, or the part of it heard so far. Returns a `Hypothesis`.

    Attributes:
        urgent: a question waits for it.
    """

    utterance: int
    samples: Samples
    draft: Hypothesis | None
    final: bool
    max_tokens: int
    urgent: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class EncodeJob:
    """Encode one closed window. Returns nothing; the sound then holds its embeddings."""

    window: int
    sound: Sound


@dataclass(frozen=True, eq=False, slots=True)
class ExtendJob:
    """Make these parts the session's kept prefix. ``rebuild``: beside the one in use, which answers go on using."""

    parts: tuple[Part, ...]
    rebuild: bool


@dataclass(frozen=True, eq=False, slots=True)
class AnswerJob:
    """Answer a question over these parts. Returns pieces of text, then a `Completion`.

    Attributes:
        settled: leading parts that only other parts will follow: read for this question, they are kept for the next.
    """

    parts: tuple[Part, ...]
    question: str
    max_tokens: int
    settled: int = 0


Job = CaptionJob | EncodeJob | ExtendJob | AnswerJob


@dataclass(frozen=True, slots=True)
class Failed:
    """A job that could not be done, and what may be said of it to a peer.

    Attributes:
        timed_out: a step of it did not end in time; another attempt would not either.
    """

    reason: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Restarted:
    """The device ran out of memory under a job: all keys and values were given up, and the job is done once more."""


Result = Hypothesis | Completion | Failed | Restarted | str | None
