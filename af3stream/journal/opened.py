"""Track a session that is being written: its pending records, and what is durable."""

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
    """A session that is being written.

    Attributes:
        event: number of the last durable event.
        acknowledged, acknowledged_event: how much of the audio and of the events may be reported as durable.
        audio, events: records that are not durable yet.
        dones: callbacks to call after the next commit.
        next_offset, next_event: the next frame and event number to append.
        size: approximate bytes of the pending records.
        broken: audio was refused; events are refused too until that audio arrives again.
        finished_at: when the session ended, in unix seconds; it is closed when nothing is pending.
        retry_at: the earliest time of the next commit, in monotonic seconds.
    """

    facts: SessionFacts
    log: SegmentLog
    event: int
    acknowledged: int
    acknowledged_event: int
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
        """Whether records are pending."""
        return bool(self.audio or self.events)

    @property
    def due(self) -> float:
        """When the next commit is due, in monotonic seconds; infinity if there is nothing to do."""
        return self.retry_at if self.waits or self.dones or self.finished_at is not None else inf

    def take(self, record: Record) -> bool:
        """Add a record that continues the session, or ignore one that is there already; return whether it is kept."""
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
        """Sync the written audio.

        Raises:
            OSError: if the disk fails; the written audio then does not count.
        """
        try:
            self.log.sync()
        finally:
            self.size -= sum(record.size for record in self.audio if record.end <= self.log.durable)
            self.audio = [record for record in self.audio if record.end > self.log.durable]

    def events_durable(self) -> None:
        """Record that all pending events are durable."""
        self.event = self.events[-1].number
        self.size -= sum(event.size for event in self.events)
        self.events = []

    def acknowledge(self) -> None:
        """Let everything that is durable be reported."""
        self.acknowledged, self.acknowledged_event = self.log.durable, self.event

    def tell(self, dones: Iterable[Done], *, refused: bool = False, superseded: bool = False) -> None:
        """Report the acknowledged state to the callbacks."""
        error: Failure | None = cast(Failure, self.error.code) if self.error else None
        if refused:
            error = error or "storage_full"
        commit = Commit(self.facts.session, self.acknowledged, self.acknowledged_event, error, refused, superseded)
        point("tell")
        for done in dones:
            try:
                done(commit)
            except Exception:
                log.exception("a commit callback failed: session=%s", self.facts.session)
