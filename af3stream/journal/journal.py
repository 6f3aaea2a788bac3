"""The journal of a server: create, append to, recover, list and delete sessions on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from filelock import FileLock

from af3stream.config import JournalConfig
from af3stream.errors import ConfigError, DataLoss, NoSession, SetupError
from af3stream.journal import disk, owner_files
from af3stream.journal.catalog import Catalog
from af3stream.journal.errors import storage_failed
from af3stream.journal.facts import Done, Lease, Recovered, Row, SessionFacts, SessionSummary
from af3stream.journal.migrate import migrate
from af3stream.journal.ownership import ABANDONED_S, Leases, Ownership, SoleOwner
from af3stream.journal.reading import Timeline, hear
from af3stream.journal.records import AudioInput, EventRecord, Record
from af3stream.journal.segments import MARK, session_folder
from af3stream.journal.store import Store
from af3stream.journal.writer import Writer

FILLED: Final = 0.9  # share of the quota above which a sweep deletes finished sessions
ROOM_BYTES: Final = 1 << 21  # a minute of 16-bit audio at 16 kHz
SHARED: Final = "shared"  # this file marks a folder that several servers use
LOCK_S: Final = 10.0  # the longest wait for another server that makes the same folder shared
Result = TypeVar("Result")


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
        self._shared = config.shared
        self._lock: FileLock | None = None
        self._writes = False
        try:
            self._folder.mkdir(mode=disk.FOLDER_MODE, parents=True, exist_ok=True)
            disk.make_folder(self._folder / "sessions")
        except OSError as error:
            raise ConfigError(f"the journal's folder {self._folder} cannot be used: {error.strerror}") from None
        migrate(self._folder)
        is_shared = config.shared or (self._folder / SHARED).exists()
        self._ownership: Ownership = Leases(self._folder, config.owner) if is_shared else SoleOwner()
        self._catalog = Catalog(self._folder, self._ownership)
        self._store = Store(self._folder, config, self._catalog, self._ownership)
        self._writer = Writer(
            self._store, commit_every_s=config.commit_every_ms / 1_000, waiting_bytes=config.waiting_mb << 20
        )

    def start(self) -> None:
        """Start to write, and clean up after a crash.

        Raises:
            ConfigError: if another server writes to this folder, and it is not shared; or if it is shared, and the
                configuration says that it is not.
        """
        if self._shared:
            self._share()
        else:
            self._lock = disk.lock(self._folder / "lock")
            if self._lock is None:
                raise ConfigError(f"another server writes the journal in {self._folder}")
            if (self._folder / SHARED).exists():
                self._unlock()
                raise ConfigError(f"several servers use the journal in {self._folder}: set journal.shared to true")
        self._writes = True
        self._store.tidy(self._clock())
        self._store.space.measure()
        self._writer.start()

    def _share(self) -> None:
        """Mark the folder as shared. The lock excludes a server that uses it alone."""
        if (self._folder / SHARED).exists():
            return
        self._lock = disk.lock(self._folder / "lock", LOCK_S)
        if self._lock is None:
            raise ConfigError(f"a server whose journal is not shared writes the journal in {self._folder}")
        try:
            disk.reveal(disk.stage(self._folder / SHARED, b""), self._folder / SHARED)
        except OSError as error:
            raise storage_failed(error) from error
        finally:
            self._unlock()

    def stop(self) -> None:
        """Commit pending records, if the disk allows it, release all sessions, and close everything."""
        self._writer.stop()
        self._unlock()

    def _unlock(self) -> None:
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
        self._writer.call(partial(self._store.open, self._row(facts.session), 0))

    def append(self, session: str, records: Sequence[Record], done: Done) -> None:
        """Make records durable: audio and gaps that continue the timeline, and events that continue the numbers.

        Thread-safe; never blocks. Pending records of all sessions are written together. Then ``done`` is called on the
        writer's thread, once for all appends with the same ``done``. After a failure it is called with the error, and
        again when the kept records are durable. It is not called for a session that is not created or recovered, or
        that is finished, released or deleted meanwhile.
        """
        self._writer.append(session, records, done)

    @property
    def shared(self) -> bool:
        """Whether several servers use the folder, so that another one may take any session."""
        return self._ownership.shared

    def take(self, session: str) -> None:
        """Let this server write a session, and record that a client uses it now.

        In a shared journal this takes the session's lease, also from an owner that lives. That owner then acknowledges
        nothing any more, and finds out at its next commit, or when it renews its leases.

        Raises:
            NoSession: if the session does not exist.
            DataLoss: if acknowledged data is damaged or missing in the raw files.
            Superseded: if another server has taken it meanwhile.
        """
        if not self._writer.call(partial(self._store.take, session, self._clock())):
            self.touch(session)

    def holds(self, session: str) -> bool:
        """Return whether this server may write a session; always true if the journal is not shared."""
        try:
            return self._ownership.holds(session)
        except OSError as error:
            raise storage_failed(error) from error

    def lease(self, session: str) -> Lease | None:
        """Return who may write a session, and which engine serves it; ``None`` if the session does not exist."""
        row = self._catalog.row(session)
        if row is None:
            return None
        owner = ""
        if isinstance(self._ownership, Leases) and (file := self._ownership.read(session, row.fence)):
            owner = file.owner
        return Lease(owner, row.fence, row.engine)

    def set_engine(self, session: str, engine: str) -> None:
        """Record the name of the engine that serves a session, so that the next owner may use the same.

        It does nothing if another server has taken the session.
        """
        self._catalog.set_engine(session, engine)

    def renew(self) -> list[str]:
        """Show other servers that this one lives, and return the open sessions that another server has taken.

        These are closed. In a shared journal, call it every few seconds.
        """
        return self._writer.call(self._store.renew)

    def recover(self, session: str) -> Recovered:
        """Read a session and all of its audio. It may then be appended to, unless it is finished.

        An incomplete record above the acknowledged offset is ignored. A session that is being written is read up to its
        durable offset. In a shared journal, a server that has started takes the session's lease.

        Raises:
            NoSession: if the session does not exist.
            DataLoss: if acknowledged data is damaged or missing; for sealed segments, while the audio is consumed.
            Superseded: if another server has taken it meanwhile.
        """
        if self._writes:
            self._writer.call(partial(self._store.take, session))

        def read(row: Row) -> Recovered:
            events = self._catalog.events(row)
            timeline = None
            if self._writes and row.finished_at is None:
                timeline = self._writer.call(partial(self._store.open, row, len(events)))
            durable, timeline = (timeline.end, timeline) if timeline else self._timeline(row)
            audio = hear(timeline.pieces, row.facts.format, start=0, end=durable)
            return Recovered(row.facts, durable, events, audio, row.finished_at is not None)

        return self._read(session, read)

    def audio(self, session: str, start: int = 0) -> Iterator[AudioInput]:
        """Yield the durable audio from the frame ``start`` on; the first record may begin earlier.

        Raises as `recover`.
        """

        def read(row: Row) -> Iterator[AudioInput]:
            durable, timeline = self._timeline(row)
            return hear(timeline.pieces, row.facts.format, start=start, end=durable)

        return self._read(session, read)

    def events(self, session: str) -> list[EventRecord]:
        """Return all durable events of a session, by number; none if it does not exist.

        Raises:
            DataLoss: if one is missing or damaged.
        """
        row = self._catalog.row(session)
        return self._catalog.events(row) if row else []

    def facts(self, session: str) -> SessionFacts | None:
        """Return the facts of a session, or ``None`` if it does not exist."""
        row = self._catalog.row(session)
        return row.facts if row else None

    def set_token(self, session: str, token_hash: bytes, expires_at: float, before: bytes | None = None) -> None:
        """Set the token that resumes a session; ``expires_at`` is in unix seconds.

        ``before``, the token that resumed it now, stays valid until `confirm_token`, because the client may not receive
        the new one.

        Raises:
            Superseded: if another server has taken the session. The token then does not count.
        """
        self._catalog.set_token(session, token_hash, expires_at, before)

    def confirm_token(self, session: str, token_hash: bytes) -> None:
        """Record that the client has this token. If it is the newest, the previous one becomes invalid."""
        self._catalog.confirm_token(session, token_hash)

    def session_of_token(self, token_hash: bytes, named: str | None = None) -> str | None:
        """Return the session that a token resumes; ``None`` if there is none, or the token has expired.

        Args:
            named: the session that the token names, if it names one. Otherwise all sessions are read once.
        """
        return self._catalog.session_of_token(token_hash, self._clock(), named)

    def touch(self, session: str) -> None:
        """Record that a client uses a session now. It does nothing if another server has taken the session."""
        self._catalog.touch(session, self._clock())

    def release(self, session: str) -> None:
        """Close the files of a session until it is recovered again. Pending records are dropped, unacknowledged.

        In a shared journal this releases the session's lease.
        """
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
        if self._ownership.shared:
            if not self._ownership.holds(session) and self._in_use(row):
                raise SetupError(f"the session {session} is open on a server, and can be deleted when it has ended")
        elif not self._writes and row.finished_at is None:
            lock = disk.lock(self._folder / "lock")
            if lock is None:
                raise SetupError(f"the session {session} is open on a server, and can be deleted when it has ended")
            lock.release()
        self._writer.call(partial(self._store.delete, session))

    def sweep(self, now: float) -> list[str]:
        """Delete expired sessions, and sessions beyond the quota; return their ids.

        First it deletes every session that no client has used for the retention time. Then, while more than 90 % of the
        quota is in use, it deletes the session that finished longest ago. It never deletes an open session; in a shared
        journal, a session counts as open while its owner renews its lease.

        Args:
            now: unix seconds.
        """
        rows = self._catalog.rows()
        closed = [row for row in rows if row.facts.session not in self._store and not self._in_use(row)]
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
            newest = self._ownership.newest(session)
            if self._catalog.row(session) != row or session in self._store:
                return False
            return self._store.delete(session, after=newest)

        try:
            return self._writer.call(delete)
        except NoSession:  # another server has deleted it
            return False

    def _row(self, session: str) -> Row:
        row = self._catalog.row(session)
        if row is None:
            raise NoSession("there is no such session")
        return row

    def _read(self, session: str, read: Callable[[Row], Result]) -> Result:
        """Read the files of a session's owner; again if another one continued meanwhile.

        What the earlier owner wrote then does not count, and the new one may have sealed its raw files.
        """
        while True:
            row = self._row(session)
            try:
                result = read(row)
            except DataLoss:
                if not self._has_moved(row):
                    raise
            else:
                if not self._has_moved(row):
                    return result

    def _has_moved(self, row: Row) -> bool:
        return self._ownership.shared and self._row(row.facts.session).fence != row.fence

    def _timeline(self, row: Row) -> tuple[int, Timeline]:
        """Return the first frame that is not durable, and the audio on disk. Change nothing."""
        durable = self._store.durable(row.facts.session)
        try:
            timeline = owner_files.timeline(row)
        except OSError as error:
            raise storage_failed(error) from error
        return timeline.end if durable is None else durable, timeline

    def _in_use(self, row: Row) -> bool:
        """Return whether another server has the session open, as far as it can be known."""
        return row.live and self._last_used(row) > self._clock() - ABANDONED_S

    def _last_used(self, row: Row) -> float:
        """Return when a client last used a session, or it was last written, in unix seconds."""
        try:
            written = (row.folder / MARK).stat().st_mtime
        except FileNotFoundError:
            return row.touched_at
        return max(row.touched_at, written)
