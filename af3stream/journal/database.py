"""SQLite: sessions, their events, and which segments are sealed.

Every write is one statement or one transaction, durable when the method returns. What is deleted is overwritten.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import ConfigError, DataLoss
from af3stream.journal import disk
from af3stream.journal.errors import storage_failed
from af3stream.journal.facts import SessionFacts
from af3stream.journal.faults import point
from af3stream.journal.records import EventRecord
from af3stream.journal.segments import Sealed

VERSION: Final = 1
BUSY_TIMEOUT_S: Final = 10.0

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS sessions (
    session TEXT PRIMARY KEY, user TEXT NOT NULL, format TEXT NOT NULL, rate INTEGER NOT NULL,
    channels INTEGER NOT NULL, start BLOB NOT NULL, created_at REAL NOT NULL, model TEXT NOT NULL,
    touched_at REAL NOT NULL, finished_at REAL, durable INTEGER NOT NULL DEFAULT 0,
    token_hash BLOB UNIQUE, token_expires_at REAL, token_before BLOB UNIQUE
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, number INTEGER NOT NULL,
    message BLOB NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (session, number)
) STRICT;
CREATE TABLE IF NOT EXISTS segments (
    session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, number INTEGER NOT NULL, first INTEGER NOT NULL,
    end INTEGER NOT NULL, codec TEXT NOT NULL, parts BLOB NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (session, number)
) STRICT;
PRAGMA user_version = {VERSION};
COMMIT;
"""
_FACTS: Final = "session, user, format, rate, channels, start, created_at, model"


@dataclass(frozen=True, slots=True)
class Row:
    """A session as the database has it; times in unix seconds, ``durable`` in frames."""

    facts: SessionFacts
    touched_at: float
    finished_at: float | None
    durable: int
    events: int


class Database:
    """One connection. Threads may share it: what takes several statements is only done by the one that commits events.

    Raises:
        ConfigError: where the file is of another version of the program, or no database.
        StorageError: any method, when the disk or the database fails.
    """

    def __init__(self, path: Path) -> None:
        with suppress(FileExistsError):
            path.touch(mode=disk.FILE_MODE, exist_ok=False)
            disk.sync_folder(path.parent)
        try:
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
                self._connection.execute(f"PRAGMA {pragma}").fetchall()
            ((version,),) = self._connection.execute("PRAGMA user_version").fetchall()
            if version == 0:
                self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"the journal's database {path} cannot be used: {error}") from None
        if version not in (0, VERSION):
            self._connection.close()
            raise ConfigError(f"the journal's database {path} has version {version}, expected {VERSION}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # ---- sessions ----------------------------------------------------------------------------------------------------

    def create(self, facts: SessionFacts) -> None:
        """Add a session."""
        sound = facts.format
        values = (facts.session, facts.user, sound.format, sound.rate, sound.channels, facts.start, facts.created_at)
        columns = f"{_FACTS}, touched_at"
        self._run(f"INSERT INTO sessions ({columns}) VALUES ({_marks(9)})", *values, facts.model, facts.created_at)

    def row(self, session: str) -> Row | None:
        """A session, if it is there."""
        rows = self._rows("WHERE session = ?", session)
        return rows[0] if rows else None

    def rows(self) -> list[Row]:
        """All sessions, the oldest first."""
        return self._rows("ORDER BY created_at, session")

    def set_token(self, session: str, token_hash: bytes, expires_at: float, before: bytes | None) -> None:
        """Give a session another token; ``before``, which it was resumed with, is good until `confirm_token`."""
        self._run(
            "UPDATE sessions SET token_hash = ?, token_expires_at = ?, token_before = ? WHERE session = ?",
            *(token_hash, expires_at, before, session),
        )

    def confirm_token(self, session: str, token_hash: bytes) -> None:
        """Forget the token before this one, where this is the newest."""
        self._run("UPDATE sessions SET token_before = NULL WHERE session = ? AND token_hash = ?", session, token_hash)

    def session_of_token(self, token_hash: bytes, now: float) -> str | None:
        """Whose token it is, if it has not expired."""
        where = "(token_hash = ? OR token_before = ?) AND token_expires_at > ?"
        rows = self._run(f"SELECT session FROM sessions WHERE {where}", token_hash, token_hash, now)
        return str(rows[0][0]) if rows else None

    def touch(self, session: str, now: float) -> None:
        """Note that someone came for it."""
        self._run("UPDATE sessions SET touched_at = ? WHERE session = ?", now, session)

    def finish(self, session: str, durable: int, now: float) -> None:
        """Note that it has ended, with so many frames."""
        self._run(
            "UPDATE sessions SET finished_at = ?, touched_at = ?, durable = MAX(durable, ?) WHERE session = ?",
            *(now, now, durable, session),
        )

    def set_durable(self, session: str, durable: int) -> None:
        """Note that all frames before ``durable`` are."""
        self._run("UPDATE sessions SET durable = MAX(durable, ?) WHERE session = ?", durable, session)

    def delete(self, session: str) -> None:
        """Remove a session, and everything about it from the database's files."""
        self._run("DELETE FROM sessions WHERE session = ?", session)
        self.checkpoint()

    def checkpoint(self) -> None:
        """Carry everything from the write-ahead log into the database, and empty the log."""
        self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    # ---- events ------------------------------------------------------------------------------------------------------

    def commit(self, events: Mapping[str, Sequence[EventRecord]], durable: Mapping[str, int]) -> None:
        """Add events of any sessions in one transaction, and note how far their audio is durable."""
        rows = [
            (session, event.number, event.message, zlib.crc32(event.message))
            for session, several in events.items()
            for event in several
        ]
        with self._transaction() as connection:
            point("events-insert")
            connection.executemany(f"INSERT INTO events VALUES ({_marks(4)})", rows)
            reached = [(frames, session) for session, frames in durable.items()]
            connection.executemany("UPDATE sessions SET durable = MAX(durable, ?) WHERE session = ?", reached)
            point("events-commit")
        point("events-committed")

    def events(self, session: str) -> list[EventRecord]:
        """All events of a session, by number.

        Raises:
            DataLoss: where one is missing or damaged.
        """
        query = "SELECT number, message, checksum FROM events WHERE session = ? ORDER BY number"
        events = []
        for expected, (number, message, checksum) in enumerate(self._run(query, session), start=1):
            if number != expected or zlib.crc32(message) != checksum:
                raise DataLoss("events", expected, max(number, expected + 1))
            events.append(EventRecord(number, message))
        return events

    # ---- segments ----------------------------------------------------------------------------------------------------

    def add_segment(self, session: str, sealed: Sealed) -> None:
        """Note that a segment is sealed."""
        values = (session, sealed.number, sealed.first, sealed.end, sealed.codec, sealed.parts, sealed.checksum)
        self._run(f"INSERT OR REPLACE INTO segments VALUES ({_marks(7)})", *values)

    def segments(self, session: str) -> list[Sealed]:
        """The sealed segments of a session, in order."""
        columns = "number, first, end, codec, parts, checksum"
        return [
            Sealed(*row)
            for row in self._run(f"SELECT {columns} FROM segments WHERE session = ? ORDER BY number", session)
        ]

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _rows(self, condition: str, *values: Any) -> list[Row]:
        count = "(SELECT COUNT(*) FROM events WHERE events.session = sessions.session)"
        query = f"SELECT {_FACTS}, touched_at, finished_at, durable, {count} FROM sessions {condition}"
        return [Row(_facts(*row[:8]), *row[8:]) for row in self._run(query, *values)]

    def _run(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise storage_failed(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise storage_failed(error) from error


def _facts(
    session: str, user: str, encoding: Any, rate: int, channels: int, start: bytes, created_at: float, model: str
) -> SessionFacts:
    return SessionFacts(session, user, AudioFormat(encoding, rate, channels), start, created_at, model)


def _marks(count: int) -> str:
    return ", ".join("?" * count)
