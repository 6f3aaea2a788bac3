"""The journal of a server: create, append to, recover, list and delete sessions on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from filelock import FileLock

from af3stream.config import JournalConfig
from af3stream.errors import ConfigError, NoSession, SetupError
from af3stream.journal import disk
from af3stream.journal.catalog import Catalog
from af3stream.journal.errors import storage_failed
from af3stream.journal.facts import Done, Recovered, Row, SessionFacts, SessionSummary
from af3stream.journal.migrate import migrate
from af3stream.journal.reading import Timeline, hear, read_timeline
from af3stream.journal.records import AudioInput, EventRecord, Record
from af3stream.journal.segments import session_folder
from af3stream.journal.store import Store
from af3stream.journal.writer import Writer

FILLED: Final = 0.9  # share of the quota above which a sweep deletes finished sessions
ROOM_BYTES: Final = 1 << 21  # a minute of 16-bit audio at 16 kHz


class Journal:
    """Keep sessions on disk. ``append`` never blocks; every other method may wait for the disk.

    Without ``start`` it reads, also while a server writes, and deletes sessions that no server writes.

    Args:
        clock: returns unix seconds.

    Raises:
        ConfigError: if the folder cannot be used.
        StorageError: from any method except ``append``, if the disk fails.
    """

    def __init__(self, config: JournalConfig, clock: Callable[[], float] = time.time) -> None:
        self._folder = Path(config.folder)
        self._retention_s = config.retention_h * 3_600
        self._clock = clock
        self._lock: FileLock | None = None
        try:
            self._folder.mkdir(mode=disk.FOLDER_MODE, parents=True, exist_ok=True)
            disk.make_folder(self._folder / "sessions")
        except OSError as error:
            raise ConfigError(f"the journal's folder {self._folder} cannot be used: {error.strerror}") from None
        migrate(self._folder)
        self._catalog = Catalog(self._folder)
        self._store = Store(self._folder, config, self._catalog)
        self._writer = Writer(
            self._store, commit_every_s=config.commit_every_ms / 1_000, waiting_bytes=config.waiting_mb << 20
        )

    def start(self) -> None:
        """Start to write, and clean up after a crash.

        Raises:
            ConfigError: if another server writes to this folder.
        """
        self._lock = disk.lock(self._folder / "lock")
        if self._lock is None:
            raise ConfigError(f"another server writes the journal in {self._folder}")
        self._store.tidy()
        self._store.space.measure()
        self._writer.start()

    def stop(self) -> None:
        """Commit pending records, if the disk allows it, and close everything."""
        self._writer.stop()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def has_room(self) -> bool:
        """Whether the disk, the quota and the queue have room for another session."""
        return self._writer.has_room and self._store.space.holds(ROOM_BYTES)

    @property
    def used_bytes(self) -> int:
        """Bytes of the folder, as last measured, plus the bytes written since then."""
        return self._store.space.used

    @property
    def quota_bytes(self) -> int:
        """The most bytes of the folder."""
        return self._store.space.quota

    # ---- one session -------------------------------------------------------------------------------------------------

    def create(self, facts: SessionFacts) -> None:
        """Create a session.

        Raises:
            NoSession: if the id is not a valid one of a server.
        """
        session_folder(self._folder, facts.session)
        self._catalog.create(facts)
        self._writer.call(partial(self._store.open, facts, 0, 0))

    def append(self, session: str, records: Sequence[Record], done: Done) -> None:
        """Make records durable: audio and gaps that continue the timeline, and events that continue the numbers.

        Thread-safe; never blocks. Pending records of all sessions are written together. Then ``done`` is called on the
        writer's thread, once for all appends with the same ``done``. After a failure it is called with the error, and
        again when the kept records are durable. It is not called for a session that is not created or recovered, or
        that is finished, released or deleted meanwhile.
        """
        self._writer.append(session, records, done)

    def recover(self, session: str) -> Recovered:
        """Read a session and all of its audio. It may then be appended to, unless it is finished.

        An incomplete record above the acknowledged offset is ignored. A session that is being written is read up to its
        durable offset.

        Raises:
            NoSession: if the session does not exist.
            DataLoss: if acknowledged data is damaged or missing; for sealed segments, while the audio is consumed.
        """
        row = self._row(session)
        events = self._catalog.events(session)
        timeline = None
        if self._lock is not None and row.finished_at is None:
            timeline = self._writer.call(partial(self._store.open, row.facts, row.durable, len(events)))
        durable, timeline = (timeline.end, timeline) if timeline else self._timeline(row)
        return Recovered(row.facts, durable, events, self._hear(row, timeline, 0, durable), row.finished_at is not None)

    def audio(self, session: str, start: int = 0) -> Iterator[AudioInput]:
        """Yield the durable audio from the frame ``start`` on; the first record may begin earlier.

        Raises as `recover`.
        """
        row = self._row(session)
        durable, timeline = self._timeline(row)
        return self._hear(row, timeline, start, durable)

    def events(self, session: str) -> list[EventRecord]:
        """Return all durable events of a session, by number.

        Raises:
            DataLoss: if one is missing or damaged.
        """
        return self._catalog.events(session)

    def facts(self, session: str) -> SessionFacts | None:
        """Return the facts of a session, or ``None`` if it does not exist."""
        row = self._catalog.row(session)
        return row.facts if row else None

    def set_token(self, session: str, token_hash: bytes, expires_at: float, before: bytes | None = None) -> None:
        """Set the token that resumes a session; ``expires_at`` is in unix seconds.

        ``before``, the token that resumed it now, stays valid until `confirm_token`, because the client may not receive
        the new one.
        """
        self._catalog.set_token(session, token_hash, expires_at, before)

    def confirm_token(self, session: str, token_hash: bytes) -> None:
        """Record that the client has this token. If it is the newest, the previous one becomes invalid."""
        self._catalog.confirm_token(session, token_hash)

    def session_of_token(self, token_hash: bytes) -> str | None:
        """Return the session that a token resumes; ``None`` if there is none, or the token has expired."""
        return self._catalog.session_of_token(token_hash, self._clock())

    def touch(self, session: str) -> None:
        """Record that a client uses a session now."""
        self._catalog.touch(session, self._clock())

    def release(self, session: str) -> None:
        """Close the files of a session until it is recovered again. Pending records are dropped, unacknowledged."""
        self._writer.call(partial(self._store.release, session))

    def finish(self, session: str) -> None:
        """Close a session for good when no record of it is pending, and seal it."""
        self._writer.call(partial(self._store.finish, session, self._clock()))

    # ---- all sessions ------------------------------------------------------------------------------------------------

    def sessions(self) -> list[SessionSummary]:
        """Return all sessions, the oldest first."""
        return [
            SessionSummary(
                row.facts,
                self._store.durable(row.facts.session) or row.durable,
                row.events,
                disk.size_of(session_folder(self._folder, row.facts.session)),
                row.touched_at,
                row.finished_at,
            )
            for row in self._catalog.rows()
        ]

    def delete(self, session: str) -> None:
        """Delete a session and its folder.

        Raises:
            NoSession: if the session does not exist.
            SetupError: if another process writes it.
        """
        row = self._row(session)
        if self._lock is None and row.finished_at is None:
            lock = disk.lock(self._folder / "lock")
            if lock is None:
                raise SetupError(f"the session {session} is open on a server, and can be deleted when it has ended")
            lock.release()
        self._writer.call(partial(self._store.delete, session))

    def sweep(self, now: float) -> list[str]:
        """Delete expired sessions, and sessions beyond the quota; return their ids.

        First it deletes every session that no client has used for the retention time. Then, while more than 90 % of the
        quota is in use, it deletes the session that finished longest ago. It never deletes an open session.

        Args:
            now: unix seconds.
        """
        closed = [row for row in self._catalog.rows() if row.facts.session not in self._store]
        old = [row for row in closed if self._last_used(row) < now - self._retention_s]
        finished = [row for row in closed if row.finished_at and row not in old]
        finished.sort(key=lambda row: row.finished_at or 0.0)
        deleted = [row.facts.session for row in old if self._delete_unused(row)]
        space = self._store.space
        while finished and space.measure() > FILLED * space.quota:
            row = finished.pop(0)
            deleted += [row.facts.session] if self._delete_unused(row) else []
        return deleted

    # ---- internal ----------------------------------------------------------------------------------------------------

    def _delete_unused(self, row: Row) -> bool:
        """Delete a session, unless a client has used it, or it was deleted, since its row was read."""
        session = row.facts.session

        def delete() -> bool:
            if self._catalog.row(session) != row or session in self._store:
                return False
            self._store.delete(session)
            return True

        return self._writer.call(delete)

    def _row(self, session: str) -> Row:
        row = self._catalog.row(session)
        if row is None:
            raise NoSession("there is no such session")
        return row

    def _timeline(self, row: Row) -> tuple[int, Timeline]:
        """Return the first frame that is not durable, and the audio on disk. Change nothing."""
        session = row.facts.session
        durable = self._store.durable(session)
        folder = session_folder(self._folder, session)
        try:
            timeline = read_timeline(folder, row.durable, lambda: self._catalog.segments(session))
        except OSError as error:
            raise storage_failed(error) from error
        return timeline.end if durable is None else durable, timeline

    def _hear(self, row: Row, timeline: Timeline, start: int, end: int) -> Iterator[AudioInput]:
        folder = session_folder(self._folder, row.facts.session)
        return hear(folder, timeline.pieces, row.facts.format, start=start, end=end)

    def _last_used(self, row: Row) -> float:
        """Return when a client last used a session, or it was last written, in unix seconds."""
        try:
            written = (session_folder(self._folder, row.facts.session) / "mark").stat().st_mtime
        except FileNotFoundError:
            return row.touched_at
        return max(row.touched_at, written)
