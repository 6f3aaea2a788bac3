"""What the journal says about a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from af3stream.audio.pcm import AudioFormat
from af3stream.journal.records import AudioInput, EventRecord

Failure = Literal["storage_full", "storage_error"]


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a session is.

    Attributes:
        session: its id, made by the server: 1 to 64 of ``A-Z a-z 0-9 _ -``.
        user: whom it belongs to.
        format: what its audio's bytes mean.
        start: the client's opening message, in JSON.
        created_at: in unix seconds.
        model: which checkpoint listens.
    """

    session: str
    user: str
    format: AudioFormat
    start: bytes
    created_at: float
    model: str


@dataclass(frozen=True, slots=True)
class Row:
    """A session as its folder has it; times in unix seconds, ``durable`` in frames."""

    facts: SessionFacts
    touched_at: float
    finished_at: float | None
    durable: int
    events: int


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in a list.

    Attributes:
        frames: sample frames known to be durable, as of the last event, segment or end.
        events: how many are kept.
        bytes: what its folder takes.
        touched_at: when someone last came for it, in unix seconds.
        finished_at: when it ended, in unix seconds, or ``None``.
    """

    facts: SessionFacts
    frames: int
    events: int
    bytes: int
    touched_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Commit:
    """How far a session is durable; cumulative.

    Attributes:
        durable: the first sample frame that is not.
        event: the last event number that is, 0 before the first.
        error: why not more is. What was appended is kept and tried again each second, unless ``refused``.
        refused: records were not kept: append again from ``durable`` and ``event + 1`` on; what is kept is skipped.
    """

    session: str
    durable: int
    event: int
    error: Failure | None = None
    refused: bool = False


Done = Callable[[Commit], None]


@dataclass(frozen=True, slots=True, eq=False)
class Recovered:
    """A session as it came back.

    Attributes:
        durable: the first sample frame that is not durable.
        events: all of them, by number.
        audio: from frame 0 to ``durable``, in order and without a hole; an audio record holds at most a few seconds.
            Consuming it raises ``DataLoss`` at a segment that is damaged, before anything of it is given out.
        finished: whether it had ended, so that nothing is kept of it any more.
    """

    facts: SessionFacts
    durable: int
    events: list[EventRecord]
    audio: Iterator[AudioInput]
    finished: bool = False
