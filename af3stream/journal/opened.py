"""A session that is being written: what it brought, and what of it is durable."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import cast

from af3stream.errors import StorageError
from af3stream.journal.facts import Commit, Done, Failure, SessionFacts
from af3stream.journal.faults import point
from af3stream.journal.records import AudioInput, EventRecord, Record
from af3stream.journal.segments import SegmentLog

log = logging.getLogger(__name__)


@dataclass(eq=False)
class OpenSession:
    """A session that is written, and what of it waits to be.

    Attributes:
        event: the last durable event number.
        audio, events: what is not durable yet.
        next_offset, next_event: what may be appended next.
        broken: audio was refused, so that no event counts until it is there.
        finished_at: when it is to be closed, once nothing waits; unix seconds.
        size: bytes that wait, about.
        retry_at: when a commit may be tried, in monotonic seconds.
    """

    facts: SessionFacts
    log: SegmentLog
    event: int
    next_offset: int
    next_event: int
    audio: list[AudioInput] = field(default_factory=list)
    events: list[EventRecord] = field(default_factory=list)
    dones: dict[Done, None] = field(default_factory=dict)
    size: int = 0
    broken: bool = False
    finished_at: float | None = None
    retry_at: float = -inf
    error: StorageError | None = None

    @property
    def waits(self) -> bool:
        """Whether something is not durable yet."""
        return bool(self.audio or self.events)

    @property
    def due(self) -> float:
        """When a commit has something to do, in monotonic seconds; infinity while nothing waits."""
        return self.retry_at if self.waits or self.dones or self.finished_at is not None else inf

    def take(self, record: Record) -> bool:
        """Take a record that continues what is there, or is there already; returns whether it is kept."""
        if isinstance(record, EventRecord):
            if record.number >= self.next_event:
                if self.broken or record.number > self.next_event:
                    return False
                self.events.append(record)
                self.next_event += 1
                self.size += record.size
        elif record.offset >= self.next_offset:
            self.broken = record.offset > self.next_offset
            if self.broken:
                return False
            self.audio.append(record)
            self.next_offset = record.end
            self.size += record.size
        return True

    def sync_audio(self) -> None:
        """Make durable what was written.

        Raises:
            OSError: when the disk refuses; nothing of it counts then.
        """
        try:
            self.log.sync()
        finally:
            self.size -= sum(record.size for record in self.audio if record.end <= self.log.durable)
            self.audio = [record for record in self.audio if record.end > self.log.durable]

    def events_durable(self) -> None:
        """Note that the events are."""
        self.event = self.events[-1].number
        self.size -= sum(event.size for event in self.events)
        self.events = []

    def tell(self, dones: Iterable[Done], *, refused: bool = False) -> None:
        """Say how far it is durable."""
        error: Failure | None = cast(Failure, self.error.code) if self.error else None
        if refused:
            error = error or "storage_full"
        commit = Commit(self.facts.session, self.log.durable, self.event, error, refused)
        point("tell")
        for done in dones:
            try:
                done(commit)
            except Exception:
                log.exception("nobody heard of a commit: session=%s", self.facts.session)
