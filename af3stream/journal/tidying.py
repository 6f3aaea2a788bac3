"""Clean up after a crash: what is left of sessions, and audio that is not sealed."""

from __future__ import annotations

import logging
from collections.abc import Container
from pathlib import Path

from af3stream.errors import DataLoss, NoSession, Superseded
from af3stream.journal import disk, owner_files
from af3stream.journal.catalog import Catalog
from af3stream.journal.facts import Row
from af3stream.journal.facts_file import FACTS
from af3stream.journal.ownership import ABANDONED_S, DELETED, Leases, Ownership
from af3stream.journal.sealing import Closed, Sealer
from af3stream.journal.segments import Raw, SealedFile, raw_files, session_folder
from af3stream.journal.takeover import take_over

log = logging.getLogger(__name__)


class Tidier:
    """Remove folders without facts, temporary files, and raw files that are sealed; queue complete ones for sealing.

    In a shared journal it touches only folders that are no session any more, and sessions with raw files that ended
    some time ago. It takes the leases of those.
    """

    def __init__(self, folder: Path, catalog: Catalog, ownership: Ownership, sealer: Sealer) -> None:
        self._folder = folder
        self._catalog = catalog
        self._ownership = ownership
        self._sealer = sealer

    def tidy(self, now: float, opened: Container[str]) -> None:
        """Tidy all sessions that are not open.

        Args:
            now: unix seconds.
            opened: the open sessions.

        Raises:
            OSError, StorageError: if the disk fails.
        """
        rows = {row.facts.session: row for row in self._catalog.rows()}
        for folder in list((self._folder / "sessions").iterdir()):
            if folder.name not in rows:
                if self._is_left(folder, now):
                    disk.remove_folder(folder)
            elif folder.name not in opened:
                try:
                    self._tidy(rows[folder.name], now)
                except DataLoss as error:
                    log.error("a session is damaged: session=%s error=%s", folder.name, error)
                except (NoSession, Superseded):
                    continue  # another server has deleted or taken it meanwhile

    def _is_left(self, folder: Path, now: float) -> bool:
        """Return whether a folder without readable facts is what a crash left."""
        if not isinstance(self._ownership, Leases):
            return not (folder / FACTS).exists()
        if folder.name.endswith(DELETED):
            return True
        try:
            return self._ownership.fence(folder.name) is None and folder.stat().st_mtime < now - ABANDONED_S
        except (NoSession, FileNotFoundError):
            return False

    def _tidy(self, row: Row, now: float) -> None:
        if isinstance(self._ownership, Leases):
            taken = self._taken(self._ownership, row, now)
            if taken is None:
                return
            row = taken
        session = row.facts.session
        files = owner_files.audio_files(row)
        sealed = {file.number for file in files if isinstance(file, SealedFile)}
        for path in list(session_folder(self._folder, session).rglob(f"*{disk.STAGED}")):
            disk.remove(path)
        for folder, last in row.parts:
            for raw in raw_files(folder):
                if raw.number in sealed and (last is None or raw.number <= last):
                    disk.remove(raw.path)
        keep = 0 if row.finished_at else 1  # the last file may have a torn tail
        if len(files) - len(sealed) > keep:
            closed = owner_files.timeline(row).raw
            for raw, end in closed[: len(closed) - keep]:
                self._sealer.add(Closed(session, row.folder, row.facts.format, raw, end))

    def _taken(self, leases: Leases, row: Row, now: float) -> Row | None:
        """Take a session that ended some time ago with raw files left; return ``None`` if it is not such a session."""
        session = row.facts.session
        newest = leases.newest(session)
        if row.finished_at is None or max(row.finished_at, leases.created_at(session, newest)) > now - ABANDONED_S:
            return None
        if not any(isinstance(file, Raw) for file in owner_files.audio_files(row)):
            return None
        fence = take_over(self._folder, self._catalog, leases, session, after=newest, live=False)
        leases.drop(session)
        self._catalog.drop(session)
        taken = self._catalog.row(session)
        return taken if taken and taken.fence == fence else None
