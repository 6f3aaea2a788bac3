"""Write all open sessions: group their records into commits, and seal their segments.

It has no thread, clock or queue; `Writer` provides them.
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

AGAIN_AFTER_S: Final = 1.0  # the delay before another attempt after a disk error


class Store:
    """The open sessions and their files.

    Attributes:
        space: how much more may be written.
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
        """Bytes of pending records of all sessions."""
        return sum(opened.size for opened in list(self._open.values()))

    @property
    def due(self) -> float:
        """When the next commit is due, in monotonic seconds; infinity if there is nothing to do."""
        return min((opened.due for opened in self._open.values()), default=inf)

    # ---- sessions ----------------------------------------------------------------------------------------------------

    def open(self, facts: SessionFacts, acknowledged: int, event: int) -> Timeline | None:
        """Open a session for writing, and return the content of its folder; ``None`` if it is open already.

        Complete records above the mark are written again, into a new file that appears at once: the sync of their old
        file may have failed.

        Raises:
            DataLoss: if acknowledged audio is damaged or missing.
            StorageError: if the disk fails.
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
        """Return the first frame of an open session that is not durable; ``None`` if the session is not open."""
        opened = self._open.get(session)
        return opened.log.durable if opened else None

    def release(self, session: str) -> None:
        """Close a session until it is opened again. Pending records are dropped, unacknowledged."""
        if opened := self._open.pop(session, None):
            opened.log.close()
            self._seal(opened)
            self._catalog.set_durable(session, opened.log.durable)

    def finish(self, session: str, now: float) -> None:
        """Close a session for good, now or when nothing of it is pending; ``now`` is in unix seconds."""
        if opened := self._open.get(session):
            opened.finished_at = now
            if not opened.waits:
                self._close_finished(opened)
        else:
            self._catalog.finish(session, 0, now)

    def delete(self, session: str) -> None:
        """Delete the facts of a session, and then its folder.

        Raises:
            StorageError: if the disk fails; `tidy` removes a folder without facts.
        """
        self._sealer.drop(session)
        if opened := self._open.pop(session, None):
            opened.log.close()
        self._catalog.delete(session)
        point("session-forgotten")
        self._remove(session_folder(self._folder, session))
        point("session-deleted")

    def tidy(self) -> None:
        """Clean up after a crash: remove folders without facts, temporary files, and raw files that are sealed.

        It also queues complete raw files for sealing.

        Raises:
            StorageError: if the disk fails.
        """
        rows = {row.facts.session: row for row in self._catalog.rows()}
        for folder in list((self._folder / "sessions").iterdir()):
            if not (folder / FACTS).exists():
                self._remove(folder)
            elif folder.name in rows and folder.name not in self._open:
                self._tidy_session(folder, rows[folder.name])

    def close(self) -> None:
        """Close everything. A disk error here loses nothing that was acknowledged."""
        try:
            for session in list(self._open):
                self.release(session)
        except StorageError as error:
            log.warning("the journal is closed, and the disk fails: error=%s", error.__cause__)
        self._sealer.close()

    # ---- commits -----------------------------------------------------------------------------------------------------

    def append(self, session: str, records: Sequence[Record], done: Done, *, refused: bool = False) -> None:
        """Queue records for the next commit. Records that do not continue the session are refused, and all after them.

        Args:
            refused: whether audio after these records was dropped for lack of room.
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
        """Make all pending records durable: first audio, then events. Report to the callbacks.

        If the audio of a session fails, its events wait: no event is durable before its audio.
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
        """Do some milliseconds of background work, and return whether there may be more."""
        return self._sealer.step(now)

    # ---- internal ----------------------------------------------------------------------------------------------------

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
        """Report the result of a commit, and start a new file, or close the session, if that is due."""
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
        keep = 0 if row.finished_at else 1  # the last file may have a torn tail
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
        """Remove the files of a session, also while a server seals them."""
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
