"""Everything that is written, by one thread: the sessions that are open, and the commits that carry what they bring.

No thread, clock or queue of its own: `Writer` brings them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Final, cast

from af3stream.journal import disk
from af3stream.journal.database import Database
from af3stream.journal.errors import StorageFailed, StorageFull, storage_failed
from af3stream.journal.facts import Commit, Done, Failure, SessionFacts
from af3stream.journal.faults import point
from af3stream.journal.reading import Timeline, read_timeline
from af3stream.journal.records import EventRecord, Heard, Record, encode
from af3stream.journal.sealing import Closed, Sealer
from af3stream.journal.segments import SegmentLog, raw_path, session_folder
from af3stream.journal.settings import JournalConfig

log = logging.getLogger(__name__)

AGAIN_AFTER_S: Final = 1.0  # what a disk refused is tried again


@dataclass(eq=False)
class _Open:
    """A session that is written.

    Attributes:
        event: the last durable event number.
        audio, events: what is not durable yet.
        next_offset, next_event: what may be appended next.
        broken: audio was refused, so that no event counts until it is there.
        finished_at: when it is to be closed, once nothing waits; unix seconds.
        retry_at: when a commit may be tried, in monotonic seconds.
    """

    facts: SessionFacts
    log: SegmentLog
    event: int
    next_offset: int
    next_event: int
    audio: list[Heard] = field(default_factory=list)
    events: list[EventRecord] = field(default_factory=list)
    dones: dict[Done, None] = field(default_factory=dict)
    broken: bool = False
    finished_at: float | None = None
    retry_at: float = -inf
    error: StorageFailed | None = None

    @property
    def waits(self) -> bool:
        """Whether something is not durable yet."""
        return bool(self.audio or self.events)

    @property
    def size(self) -> int:
        """Bytes that are not durable yet, about."""
        return sum(record.size for record in self.audio) + sum(record.size for record in self.events)

    def take(self, record: Record) -> bool:
        """Take a record that continues what is there, or is there already; returns whether it is kept."""
        if isinstance(record, EventRecord):
            if record.number >= self.next_event:
                if self.broken or record.number > self.next_event:
                    return False
                self.events.append(record)
                self.next_event += 1
        elif record.offset >= self.next_offset:
            self.broken = record.offset > self.next_offset
            if self.broken:
                return False
            self.audio.append(record)
            self.next_offset = record.end
        return True

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


class Store:
    """What is on disk, and the sessions that are being written.

    Attributes:
        space: how much may still be written.
    """

    def __init__(self, folder: Path, config: JournalConfig) -> None:
        self.space = disk.Space(folder, quota_mb=config.quota_mb, reserve_mb=config.reserve_mb)
        self._folder = folder
        self._segment_s = config.segment_s
        self._database = Database(folder / "journal.db")
        self._sealer = Sealer(self._database, self.space)
        self._open: dict[str, _Open] = {}

    def __contains__(self, session: str) -> bool:
        return session in self._open

    @property
    def waiting_bytes(self) -> int:
        """What is not durable yet, of all sessions."""
        return sum(opened.size for opened in list(self._open.values()))

    @property
    def due(self) -> float:
        """When a commit has something to do, in monotonic seconds; infinity while nothing waits."""
        return min((opened.retry_at for opened in self._open.values() if opened.waits), default=inf)

    # ---- sessions ----------------------------------------------------------------------------------------------------

    def open(self, facts: SessionFacts, acknowledged: int, event: int) -> Timeline | None:
        """Begin to write a session, after what its folder holds; returns that, or ``None`` where it is open already.

        Whole records above the mark are written again into a file of their own, which appears at once or not at all:
        the file they stood in may be one whose sync had failed.

        Raises:
            DataLoss: where something acknowledged is damaged or missing.
            StorageFailed: where the disk refuses.
        """
        if facts.session in self._open:
            return None
        folder = session_folder(self._folder, facts.session)
        timeline = read_timeline(folder, acknowledged, lambda: self._database.segments(facts.session))
        closed, number = list(timeline.raw), timeline.next_number
        try:
            if timeline.tail:
                path = raw_path(folder, number, timeline.mark)
                staged = disk.stage(path, b"".join(map(encode, timeline.tail)))
                point("tail-staged")
                disk.reveal(staged, path)
                point("tail-revealed")
                number += 1
            disk.make_folder(folder)
            segment_frames = round(self._segment_s * facts.format.rate)
            segment_log = SegmentLog(folder, timeline.end, number, segment_frames)
        except OSError as error:
            raise storage_failed(error) from error
        opened = _Open(facts, segment_log, event, next_offset=timeline.end, next_event=event + 1)
        self._open[facts.session] = opened
        for raw, end in closed:
            self._sealer.add(Closed(facts.session, facts.format, raw, end))
        return timeline

    def durable(self, session: str) -> int:
        """The first frame of an open session that is not durable."""
        return self._open[session].log.durable

    def release(self, session: str) -> None:
        """Write a session no more, until it is opened again; what still waits of it is dropped, unacknowledged."""
        if opened := self._open.pop(session, None):
            self._close(opened)

    def finish(self, session: str, now: float) -> None:
        """Close a session for good, at once or when nothing of it waits any more; ``now`` in unix seconds."""
        if opened := self._open.get(session):
            opened.finished_at = now
            self._close_finished(opened)
        else:
            self._database.finish(session, 0, now)

    def delete(self, session: str) -> None:
        """Remove a session: its rows, then its files.

        Raises:
            StorageFailed: where the disk refuses; a folder without rows is removed by `tidy`.
        """
        self._sealer.drop(session)
        if opened := self._open.pop(session, None):
            opened.log.close()
        self._database.delete(session)
        point("session-forgotten")
        self._remove(session_folder(self._folder, session))
        point("session-deleted")

    def tidy(self) -> None:
        """Remove what a sudden end left behind: folders without a session, unfinished files, raw files that are sealed.

        Raises:
            StorageFailed: where the disk refuses.
        """
        known = {row.facts.session for row in self._database.rows()}
        for folder in list((self._folder / "sessions").iterdir()):
            if folder.name not in known:
                self._remove(folder)
            elif folder.name not in self._open:
                self._tidy_session(folder)

    def close(self) -> None:
        """Write no more."""
        for session in list(self._open):
            self.release(session)
        self._database.checkpoint()
        self._database.close()

    # ---- commits -----------------------------------------------------------------------------------------------------

    def append(self, session: str, records: Sequence[Record], done: Done, *, refused: bool = False) -> None:
        """Keep records until the next commit; where one does not continue what is there, it and all after it are refused.

        Args:
            refused: there was no room to keep the records, and audio was among them.
        """
        opened = self._open.get(session)
        if opened is None:
            return
        opened.broken = opened.broken or refused
        kept = not refused and all(map(opened.take, records))
        if not kept:
            opened.tell([done], refused=True)
        elif opened.waits:
            opened.dones[done] = None
        else:
            opened.tell([done])

    def commit(self, now: float) -> None:
        """Make everything that waits durable: all audio, then all events, and tell whoever brought it.

        A session whose audio fails keeps its events back: no event is durable before the audio it speaks of.
        """
        due = [opened for opened in self._open.values() if opened.waits and opened.retry_at <= now]
        full = None if self.space.holds(sum(opened.size for opened in due)) else StorageFull()
        for opened in due:
            opened.error = full
        with_audio = [opened for opened in due if opened.audio]
        self._each(with_audio, self._write)
        self._each(with_audio, self._sync)
        self._commit_events([opened for opened in due if opened.events and not opened.error])
        for opened in due:
            if opened.error:
                opened.retry_at = now + AGAIN_AFTER_S
                opened.tell(list(opened.dones))
            else:
                dones, opened.dones = list(opened.dones), {}
                opened.tell(dones)
                self._close_finished(opened)
        self._turn_segments(with_audio)

    def step(self, now: float) -> bool:
        """Do some milliseconds of what can wait; returns whether there may be more."""
        return self._sealer.step(now)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _each(self, several: Iterable[_Open], action: Callable[[_Open], None]) -> None:
        for opened in several:
            if opened.error:
                continue
            try:
                action(opened)
            except OSError as error:
                log.error("audio is not stored: session=%s error=%s", opened.facts.session, error)
                opened.error = storage_failed(error)

    def _write(self, opened: _Open) -> None:
        self.space.used += opened.log.write(opened.audio)

    @staticmethod
    def _sync(opened: _Open) -> None:
        opened.log.sync()
        opened.audio = []

    def _commit_events(self, several: Sequence[_Open]) -> None:
        if not several:
            return
        events = {opened.facts.session: opened.events for opened in several}
        try:
            self._database.commit(events, {opened.facts.session: opened.log.durable for opened in several})
        except StorageFailed as error:
            log.error("events are not stored: error=%s", error.__cause__)
            for opened in several:
                opened.error = error
            return
        for opened in several:
            self.space.used += sum(event.size for event in opened.events)
            opened.event = opened.events[-1].number
            opened.events = []

    def _turn_segments(self, several: Iterable[_Open]) -> None:
        """Close the files that are full, and seal what is closed."""
        for opened in several:
            if opened.log.full:
                opened.log.close_segment()
            self._seal(opened)

    def _seal(self, opened: _Open) -> None:
        closed, opened.log.closed = opened.log.closed, []
        for raw, end in closed:
            self._sealer.add(Closed(opened.facts.session, opened.facts.format, raw, end))

    def _close_finished(self, opened: _Open) -> None:
        if opened.finished_at is not None and not opened.waits:
            del self._open[opened.facts.session]
            self._close(opened)
            self._database.finish(opened.facts.session, opened.log.durable, opened.finished_at)

    def _close(self, opened: _Open) -> None:
        opened.log.close()
        self._seal(opened)
        self._database.set_durable(opened.facts.session, opened.log.durable)

    def _tidy_session(self, folder: Path) -> None:
        sealed = {segment.number for segment in self._database.segments(folder.name)}
        for path in list(folder.glob(f"*{disk.STAGED}")):
            disk.remove(path)
        for raw in raw_files(folder):
            if raw.number in sealed:
                disk.remove(raw.path)

    def _remove(self, folder: Path) -> None:
        try:
            if folder.exists():
                shutil.rmtree(folder)
                disk.sync_folder(folder.parent)
        except OSError as error:
            raise storage_failed(error) from error
        self.space.measure()
