"""The records that the journal returns about sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from af3stream.audio.pcm import AudioFormat
from af3stream.journal.records import AudioInput, EventRecord

Failure = Literal["storage_full", "storage_error"]


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """The facts of a session that do not change.

    Attributes:
        session: the id, made by the server: 1 to 64 of ``A-Z a-z 0-9 _ -``.
        user: the user that the session belongs to.
        format: the format of its audio.
        start: the client's ``start`` message, in JSON.
        created_at: unix seconds.
        model: name of the checkpoint.
    """

    session: str
    user: str
    format: AudioFormat
    start: bytes
    created_at: float
    model: str


@dataclass(frozen=True, slots=True)
class Row:
    """The facts and state of a session. Times are unix seconds; ``durable`` is a number of frames.

    Attributes:
        live: in a shared journal, whether the owner has the session open, if it has not crashed.
        fence: of the owner.
        parts: the folders with audio that counts, by fence; each with the number of the last raw file or segment that
            counts, or ``None`` for all.
        log_events, log_bytes: what the facts say of the event log: that it has at least so much.
        engine: name of the engine that serves the session, or empty.
    """

    facts: SessionFacts
    touched_at: float
    finished_at: float | None
    durable: int
    events: int
    live: bool
    fence: int
    parts: tuple[tuple[Path, int | None], ...]
    log_events: int
    log_bytes: int
    engine: str

    @property
    def folder(self) -> Path:
        """The folder of the owner."""
        return self.parts[-1][0]


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may write a session.

    Attributes:
        owner: name of the server that took the session last; empty in a journal of one server.
        fence: counts the owners of a session; 0 in a journal of one server.
        engine: name of the engine that serves the session, or empty.
    """

    owner: str
    fence: int
    engine: str


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in a list.

    Attributes:
        frames: number of sample frames known to be durable, at the last event, segment or end.
        events: number of events kept.
        bytes: bytes of its folder.
        touched_at: when a client last used it, in unix seconds.
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
    """The durable state of a session; cumulative.

    Attributes:
        durable: the first sample frame that is not durable.
        event: number of the last durable event; 0 before the first.
        error: why not more is durable. Pending records are kept and tried again each second, unless ``refused``.
        refused: some records were not kept. Append again from ``durable`` and ``event + 1`` on; records that are kept
            are ignored.
        superseded: another server took the session. Pending records are dropped, and later ones are ignored.
    """

    session: str
    durable: int
    event: int
    error: Failure | None = None
    refused: bool = False
    superseded: bool = False


Done = Callable[[Commit], None]


@dataclass(frozen=True, slots=True, eq=False)
class Recovered:
    """A session read from disk.

    Attributes:
        durable: the first sample frame that is not durable.
        events: all events, by number.
        audio: the audio from frame 0 to ``durable``, in order and complete; a record holds at most a few seconds. The
            iterator raises ``DataLoss`` at a damaged segment, before it yields any of it.
        finished: whether the session has ended, and cannot be appended to.
    """

    facts: SessionFacts
    durable: int
    events: list[EventRecord]
    audio: Iterator[AudioInput]
    finished: bool = False
