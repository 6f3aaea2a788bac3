"""Everything that is written, by one thread: the sessions that are open, and the commits that carry what they bring.

No thread, clock or queue of its own: `Writer` brings them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from errno import ENOENT, ENOTEMPTY
from math import inf
from pathlib import Path
from typing import Final

from af3stream.config import JournalConfig
from af3stream.errors import DataLoss, StorageError, StorageFull
from af3stream.journal import disk
from af3stream.journal.catalog import Catalog
from af3stream.journal.errors import storage_failed
from af3stream.journal.facts import Done, Row, SessionFacts
from af3stream.journal.facts_file import FACTS
from af3stream.journal.faults import point
from af3stream.journal.opened import OpenSession
from af3stream.journal.reading import Timeline, read_timeline
from af3stream.journal.records import Record, encode
from af3stream.journal.sealing import Closed, Sealer
from af3stream.journal.segments import Sealed, SegmentLog, raw_files, raw_path, session_folder

log = logging.getLogger(__name__)

AGAIN_AFTER_S: Final = 1.0  # what a disk refused is tried again


class Store:
    """What is on disk, and the sessions that are being written.

    Attributes:
        space: how much may still be written.
    """

    def __init__(self, folder: Path, config: JournalConfig, catalog: Catalog) -> None:
        self.space = disk.Space(folder, quota_mb=config.quota_mb, reserve_mb=config.reserve_mb)
        self._folder = folder
        self._segment_s = config.segment_s
        self._catalog = catalog
        self._sealer = Sealer(self._catalog, self.space)
        self._open: dict[str, OpenSession] = {}

    def __contains__(self, session: str) -> bool:
        return session in self._open

    @property
    def waiting_bytes(self) -> int:
        """What is not durable yet, of all sessions."""
        return sum(opened.size for opened in list(self._open.values()))

    @property
    def due(self) -> float:
        """When a commit has something to do, in monotonic seconds; infinity while nothing waits."""
        return min((opened.due for opened in self._open.values()), default=inf)

    # ---- sessions ----------------------------------------------------------------------------------------------------

    def open(self, facts: SessionFacts, acknowledged: int, event: int) -> Timeline | None:
        """Begin to write a session, after what its folder holds; returns that, or ``None`` where it is open already.

        Whole records above the mark are written again into a file of their own, which appears at once or not at all:
        the file they stood in may be one whose sync had failed.

        Raises:
            DataLoss: where something acknowledged is damaged or missing.
            StorageError: where the disk refuses.
        """
        if facts.session in self._open:
            return None
        folder = session_folder(self._folder, facts.session)
        try:
            timeline = read_timeline(folder, acknowledged, lambda: self._catalog.segments(facts.session))
            closed, number = list(timeline.raw), timeline.next_number
            if timeline.tail:
                path = raw_path(folder, number, timeline.mark)
                staged = disk.stage(path, b"".join(map(encode, timeline.tail)))
                point("tail-staged")
                disk.reveal(staged, path)
                point("tail-revealed")
                number += 1
            disk.make_folder(folder)
            self._catalog.open(facts.session)
            segment_frames = round(self._segment_s * facts.format.rate)
            segment_log = SegmentLog(folder, timeline.end, number, segment_frames)
        except OSError as error:
            raise storage_failed(error) from error
        opened = OpenSession(facts, segment_log, event, next_offset=timeline.end, next_event=event + 1)
        self._open[facts.session] = opened
        for raw, end in closed:
            self._sealer.add(Closed(facts.session, facts.format, raw, end))
        return timeline

    def durable(self, session: str) -> int | None:
        """The first frame of an open session that is not durable."""
        opened = self._open.get(session)
        return opened.log.durable if opened else None

    def release(self, session: str) -> None:
        """Write a session no more, until it is opened again; what still waits of it is dropped, unacknowledged."""
        if opened := self._open.pop(session, None):
            opened.log.close()
            self._seal(opened)
            self._catalog.set_durable(session, opened.log.durable)

    def finish(self, session: str, now: float) -> None:
        """Close a session for good, at once or when nothing of it waits any more; ``now`` in unix seconds."""
        if opened := self._open.get(session):
            opened.finished_at = now
            if not opened.waits:
                self._close_finished(opened)
        else:
            self._catalog.finish(session, 0, now)

    def delete(self, session: str) -> None:
        """Remove a session: its facts, then its folder.

        Raises:
            StorageError: when the disk refuses; a folder without facts is removed by `tidy`.
        """
        self._sealer.drop(session)
        if opened := self._open.pop(session, None):
            opened.log.close()
        self._catalog.delete(session)
        point("session-forgotten")
        self._remove(session_folder(self._folder, session))
        point("session-deleted")

    def tidy(self) -> None:
        """Remove what a sudden end left behind (folders without facts, files under another name, raw files that are
        sealed), and seal what can be.

        Raises:
            StorageError: where the disk refuses.
        """
        rows = {row.facts.session: row for row in self._catalog.rows()}
        for folder in list((self._folder / "sessions").iterdir()):
            if not (folder / FACTS).exists():
                self._remove(folder)
            elif folder.name in rows and folder.name not in self._open:
                self._tidy_session(folder, rows[folder.name])

    def close(self) -> None:
        """Write no more. What a disk that refuses does not take here was never acknowledged, or is known otherwise."""
        try:
            for session in list(self._open):
                self.release(session)
        except StorageError as error:
            log.warning("the journal is closed on a disk that refuses: error=%s", error.__cause__)
        self._sealer.close()

    # ---- commits -----------------------------------------------------------------------------------------------------

    def append(self, session: str, records: Sequence[Record], done: Done, *, refused: bool = False) -> None:
        """Keep records until the next commit; one that does not continue what is there is refused, and all after it.

        Args:
            refused: there was no room to keep what followed these records, and audio was among it.
        """
        opened = self._open.get(session)
        if opened is None:
            return
        kept = all(map(opened.take, records))
        opened.broken = opened.broken or refused
        if refused or not kept:
            opened.tell([done], refused=True)
        if opened.waits:
            opened.dones[done] = None
        elif kept and not refused:
            opened.tell([done])

    def commit(self, now: float) -> None:
        """Make everything that waits durable: all audio, then all events, and tell whoever brought it.

        A session whose audio fails keeps its events back: no event is durable before the audio it speaks of.
        """
        due = [opened for opened in self._open.values() if opened.due <= now]
        full = None if self.space.holds(sum(opened.size for opened in due)) else StorageFull()
        for opened in due:
            opened.error = full if opened.waits else None
        with_audio = [opened for opened in due if opened.audio]
        self._each(with_audio, self._write)
        self._each(with_audio, OpenSession.sync_audio)
        for opened in due:
            if opened.events and not opened.error:
                self._commit_events(opened)
        for opened in due:
            self._conclude(opened, now)

    def step(self, now: float) -> bool:
        """Do some milliseconds of what can wait; returns whether there may be more."""
        return self._sealer.step(now)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _each(self, several: Iterable[OpenSession], action: Callable[[OpenSession], None]) -> None:
        for opened in several:
            if opened.error:
                continue
            try:
                action(opened)
            except OSError as error:
                log.error("audio is not stored: session=%s error=%s", opened.facts.session, error)
                opened.error = storage_failed(error)

    def _write(self, opened: OpenSession) -> None:
        self.space.used += opened.log.write(opened.audio)

    def _commit_events(self, opened: OpenSession) -> None:
        try:
            self._catalog.commit(opened.facts.session, opened.events, opened.log.durable)
        except StorageError as error:
            log.error("events are not stored: session=%s error=%s", opened.facts.session, error.__cause__)
            opened.error = error
            return
        self.space.used += sum(event.size for event in opened.events)
        opened.events_durable()

    def _conclude(self, opened: OpenSession, now: float) -> None:
        """Tell how a commit went, and turn to the next file, or close, where that is due."""
        dones = list(opened.dones)
        if opened.error:
            opened.retry_at = now + AGAIN_AFTER_S
        else:
            opened.dones.clear()
        opened.tell(dones)
        if opened.log.full:
            opened.log.close_segment()
        self._seal(opened)
        if opened.finished_at is not None and not opened.waits:
            try:
                self._close_finished(opened)
            except StorageError:
                opened.retry_at = now + AGAIN_AFTER_S

    def _seal(self, opened: OpenSession) -> None:
        closed, opened.log.closed = opened.log.closed, []
        for raw, end in closed:
            self._sealer.add(Closed(opened.facts.session, opened.facts.format, raw, end))

    def _close_finished(self, opened: OpenSession) -> None:
        assert opened.finished_at is not None
        self._catalog.finish(opened.facts.session, opened.log.durable, opened.finished_at)
        del self._open[opened.facts.session]
        opened.log.close()
        self._seal(opened)

    def _tidy_session(self, folder: Path, row: Row) -> None:
        try:
            segments = self._catalog.segments(folder.name)
        except DataLoss as error:
            log.error("a session is damaged: session=%s error=%s", folder.name, error)
            return
        sealed = {segment.number for segment in segments}
        for path in list(folder.glob(f"*{disk.STAGED}")):
            disk.remove(path)
        left = [raw for raw in raw_files(folder) if raw.number not in sealed]
        for raw in raw_files(folder):
            if raw.number in sealed:
                disk.remove(raw.path)
        keep = 0 if row.finished_at else 1  # the last one may end in a tail
        if len(left) > keep:
            self._seal_left(folder, row, segments, keep)

    def _seal_left(self, folder: Path, row: Row, segments: Sequence[Sealed], keep: int) -> None:
        try:
            closed = read_timeline(folder, row.durable, lambda: segments).raw
        except DataLoss as error:
            log.error("a session is damaged: session=%s error=%s", folder.name, error)
            return
        for raw, end in closed[: len(closed) - keep]:
            self._sealer.add(Closed(folder.name, row.facts.format, raw, end))

    def _remove(self, folder: Path) -> None:
        """Remove a session's files; a server that seals them meanwhile makes some vanish, and others appear."""
        try:
            while folder.exists():
                try:
                    shutil.rmtree(folder)
                    disk.sync_folder(folder.parent)
                except OSError as error:
                    if error.errno not in (ENOENT, ENOTEMPTY):
                        raise
        except OSError as error:
            raise storage_failed(error) from error
        self.space.measure()
