"""Write all open sessions: group their records into commits, and seal their segments.

It has no thread, clock or queue; `Writer` provides them.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final

from af3stream.config import JournalConfig
from af3stream.errors import StorageError, StorageFull
from af3stream.journal import disk, owner_files
from af3stream.journal.catalog import Catalog
from af3stream.journal.errors import storage_failed, superseded
from af3stream.journal.facts import Done, Row
from af3stream.journal.faults import point
from af3stream.journal.opened import OpenSession
from af3stream.journal.ownership import DELETED, Leases, Ownership
from af3stream.journal.reading import Timeline
from af3stream.journal.records import Record, encode
from af3stream.journal.sealing import Closed, Sealer
from af3stream.journal.segments import MARK, SegmentLog, raw_path, session_folder
from af3stream.journal.takeover import take_over
from af3stream.journal.tidying import Tidier

log = logging.getLogger(__name__)

AGAIN_AFTER_S: Final = 1.0  # the delay before another attempt after a disk error


class Store:
    """The open sessions and their files.

    Attributes:
        space: how much more may be written.
    """

    def __init__(self, folder: Path, config: JournalConfig, catalog: Catalog, ownership: Ownership) -> None:
        self.space = disk.Space(folder, quota_mb=config.quota_mb, reserve_mb=config.reserve_mb)
        self._folder = folder
        self._segment_s = config.segment_s
        self._catalog = catalog
        self._ownership = ownership
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

    def take(self, session: str, touched_at: float | None = None) -> bool:
        """Take the lease of a session; return false if this process holds it, or the journal is not shared.

        Args:
            touched_at: when a client uses the session, in unix seconds; ``None``: none does.

        Raises:
            NoSession: if the session does not exist.
            DataLoss: if acknowledged data is damaged or missing.
            Superseded: if another server has taken it meanwhile.
            StorageError: if the disk fails.
        """
        try:
            if not isinstance(self._ownership, Leases) or self._ownership.holds(session):
                return False
            if opened := self._open.get(session):
                self._lose(opened)
            self._catalog.drop(session)
            changes: dict[str, Any] = {} if touched_at is None else {"touched_at": touched_at}
            take_over(self._folder, self._catalog, self._ownership, session, live=True, **changes)
            return True
        except OSError as error:
            raise storage_failed(error) from error

    def open(self, row: Row, event: int) -> Timeline | None:
        """Open a session for writing, and return the content of its folder; ``None`` if it is open already.

        Complete records above the mark are written again, into a new file that appears at once: the sync of their old
        file may have failed.

        Args:
            event: number of the last durable event.

        Raises:
            DataLoss: if acknowledged audio is damaged or missing.
            Superseded: if another server has taken the session.
            StorageError: if the disk fails.
        """
        facts, folder = row.facts, row.folder
        if facts.session in self._open:
            return None
        try:
            if self._ownership.held(facts.session) != row.fence:
                raise superseded()
            timeline = owner_files.timeline(row)
            closed, number = list(timeline.raw), timeline.next_number
            if timeline.tail:
                path = raw_path(folder, number, timeline.mark)
                staged = disk.stage(path, b"".join(map(encode, timeline.tail)))
                point("tail-staged")
                disk.reveal(staged, path)
                point("tail-revealed")
                number += 1
            disk.make_folder(folder)
            self._catalog.open(row)
            self._catalog.set_live(facts.session)
            segment_frames = round(self._segment_s * facts.format.rate)
            segment_log = SegmentLog(folder, timeline.end, number, segment_frames)
            if not self._ownership.holds(facts.session):
                segment_log.close()
                self._catalog.drop(facts.session)
                raise superseded()
        except OSError as error:
            raise storage_failed(error) from error
        end = timeline.end
        opened = OpenSession(facts, segment_log, event, end, event, next_offset=end, next_event=event + 1)
        self._open[facts.session] = opened
        for raw, raw_end in closed:
            self._sealer.add(Closed(facts.session, folder, facts.format, raw, raw_end))
        return timeline

    def durable(self, session: str) -> int | None:
        """Return the first frame of an open session that is not acknowledged; ``None`` if the session is not open."""
        opened = self._open.get(session)
        return opened.acknowledged if opened else None

    def renew(self) -> list[str]:
        """Show other servers that this one lives, and return the sessions that another server has taken."""
        lost = []
        for session, opened in list(self._open.items()):
            try:
                if self._ownership.holds(session):
                    os.utime(opened.log.folder / MARK)
                else:
                    self._lose(opened)
                    lost.append(session)
            except OSError as error:
                log.warning("a lease cannot be renewed: session=%s error=%s", session, error)
        return lost

    def release(self, session: str) -> None:
        """Close a session until it is opened again. Pending records are dropped, unacknowledged."""
        if opened := self._held(session):
            del self._open[session]
            opened.log.close()
            self._seal(opened)
            self._catalog.set_durable(session, opened.acknowledged)
            self._ownership.drop(session)

    def finish(self, session: str, now: float) -> None:
        """Close a session for good, now or when nothing of it is pending; ``now`` is in unix seconds."""
        if opened := self._held(session):
            opened.finished_at = now
            if not opened.waits:
                self._close_finished(opened)
        else:
            self._catalog.finish(session, 0, now)
            self._ownership.drop(session)

    def delete(self, session: str, after: int | None = None) -> bool:
        """Delete the facts of a session, and then its folder; return false if it has another owner meanwhile.

        Args:
            after: in a shared journal: delete only if no newer lease exists than this one.

        Raises:
            StorageError: if the disk fails; `tidy` removes a folder without facts.
        """
        self._sealer.drop(session)
        if opened := self._open.pop(session, None):
            opened.log.close()
        folder = session_folder(self._folder, session)
        try:
            if isinstance(self._ownership, Leases):
                if not self._ownership.holds(session) and self._ownership.claim(session, after) is None:
                    return False
                folder = self._hide(folder)
                self._ownership.drop(session)
            self._catalog.delete(session)
            point("session-forgotten")
            disk.remove_folder(folder)
        except OSError as error:
            raise storage_failed(error) from error
        self.space.measure()
        point("session-deleted")
        return True

    def tidy(self, now: float) -> None:
        """Clean up after a crash. See `af3stream.journal.tidying.Tidier`.

        Args:
            now: unix seconds.

        Raises:
            StorageError: if the disk fails.
        """
        try:
            Tidier(self._folder, self._catalog, self._ownership, self._sealer).tidy(now, self._open)
        except OSError as error:
            raise storage_failed(error) from error

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
            if self._may_acknowledge(opened):
                self._conclude(opened, now)
            else:
                self._lose(opened)

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

    def _held(self, session: str) -> OpenSession | None:
        """Return an open session that no other server has taken."""
        opened = self._open.get(session)
        try:
            if opened and not self._ownership.holds(session):
                self._lose(opened)
                return None
        except OSError as error:
            raise storage_failed(error) from error
        return opened

    def _may_acknowledge(self, opened: OpenSession) -> bool:
        """Acknowledge what is durable, unless another server has taken the session: then return false."""
        try:
            if not self._ownership.holds(opened.facts.session):
                return False
        except OSError as error:
            log.error("a lease cannot be checked: session=%s error=%s", opened.facts.session, error)
            opened.error = storage_failed(error)
            return True
        opened.acknowledge()
        return True

    def _lose(self, opened: OpenSession) -> None:
        """Close a session that another server has taken, and write it no more."""
        session = opened.facts.session
        log.info("another server took a session: session=%s", session)
        del self._open[session]
        opened.log.close()
        self._sealer.drop(session)
        self._catalog.drop(session)
        opened.tell(list(opened.dones), superseded=True)

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
            self._sealer.add(Closed(opened.facts.session, opened.log.folder, opened.facts.format, raw, end))

    def _close_finished(self, opened: OpenSession) -> None:
        assert opened.finished_at is not None
        session = opened.facts.session
        self._catalog.finish(session, opened.acknowledged, opened.finished_at)
        del self._open[session]
        opened.log.close()
        self._seal(opened)
        self._ownership.drop(session)

    def _hide(self, folder: Path) -> Path:
        """Rename the folder of a session so that it is none, and return the new path."""
        hidden = folder.with_name(f"{folder.name}.{secrets.token_hex(8)}{DELETED}")
        folder.rename(hidden)
        disk.sync_folder(hidden.parent)
        return hidden
