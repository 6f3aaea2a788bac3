"""Migrate a journal of layout 1, one SQLite database for all sessions, to one folder per session.

Until the database is removed, the migration writes only the new files, and nothing else reads them. So an interrupted
migration can start again from the beginning, with the same result.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import ConfigError
from af3stream.journal import disk
from af3stream.journal.commit_log import encode
from af3stream.journal.errors import storage_failed
from af3stream.journal.facts import SessionFacts
from af3stream.journal.facts_file import FACTS, FactsFile, write_facts
from af3stream.journal.owner_files import EVENTS, SEGMENTS
from af3stream.journal.segments import Sealed, session_folder

log = logging.getLogger(__name__)

DATABASE: Final = "journal.db"
LAYOUT: Final = 1
COMMIT_EVENTS: Final = 1_000  # the most events in one commit of a migrated log


def migrate(folder: Path) -> None:
    """Migrate the folder of a journal, if it has a database. The audio files stay unchanged.

    Raises:
        ConfigError: if another process writes the journal, or the database cannot be used.
        StorageError: if the disk fails; the database is then unchanged.
    """
    if not (folder / DATABASE).exists():
        return
    lock = disk.lock(folder / "lock")
    if lock is None:
        raise ConfigError(f"another server writes the journal in {folder}")
    try:
        if (folder / DATABASE).exists():  # not migrated by another process meanwhile
            _migrate(folder)
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"the journal's database {folder / DATABASE} cannot be used: {error}") from None
    except OSError as error:
        raise storage_failed(error) from error
    finally:
        lock.release()


def _migrate(folder: Path) -> None:
    path = folder / DATABASE
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        ((version,),) = database.execute("PRAGMA user_version").fetchall()
        if version not in (0, LAYOUT):
            raise ConfigError(f"the journal's database {path} has version {version}, expected {LAYOUT}")
        database.row_factory = sqlite3.Row
        sessions = database.execute("SELECT * FROM sessions").fetchall() if version else []
        for row in sessions:
            _write_session(database, session_folder(folder, row["session"]), row)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    disk.remove(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    log.info("the journal was migrated to one folder per session: folder=%s sessions=%d", folder, len(sessions))


def _write_session(database: sqlite3.Connection, folder: Path, row: sqlite3.Row) -> None:
    """Write the logs of a session, and then its facts."""
    session, durable = row["session"], row["durable"]
    events = database.execute(
        "SELECT number, message, checksum FROM events WHERE session = ? ORDER BY number", (session,)
    ).fetchall()
    segments = database.execute(
        "SELECT number, first, end, codec, parts, checksum FROM segments WHERE session = ? ORDER BY number", (session,)
    ).fetchall()
    disk.make_folder(folder)
    log_bytes = _write_log(folder / EVENTS, _event_commits(session, events, durable))
    sealed = [msgspec.msgpack.encode(Sealed(*segment)) for segment in segments]
    _write_log(folder / SEGMENTS, [encode(durable, 1, sealed)] if sealed else [])
    sound = AudioFormat(row["format"], row["rate"], row["channels"])
    facts = SessionFacts(session, row["user"], sound, row["start"], row["created_at"], row["model"])
    kept = ("touched_at", "finished_at", "durable", "token_hash", "token_before")
    state: dict[str, Any] = {name: row[name] for name in kept}
    state |= {"token_expires_at": row["token_expires_at"] or 0.0, "log_bytes": log_bytes}
    state |= {"events": events[-1]["number"] if events else 0}
    write_facts(folder / FACTS, FactsFile.of(facts, **state))


def _event_commits(session: str, rows: Sequence[sqlite3.Row], durable: int) -> list[bytes]:
    """Return the events of a session as commits. Damaged events are left out; their missing numbers show the loss."""
    whole = [row for row in rows if zlib.crc32(row["message"]) == row["checksum"]]
    if len(whole) < len(rows):
        log.error("damaged events are not migrated: session=%s events=%d", session, len(rows) - len(whole))
    commits = []
    for _, run in groupby(enumerate(whole), lambda item: item[1]["number"] - item[0]):
        consecutive = [row for _, row in run]
        for at in range(0, len(consecutive), COMMIT_EVENTS):
            part = consecutive[at : at + COMMIT_EVENTS]
            commits.append(encode(durable, part[0]["number"], [row["message"] for row in part]))
    return commits


def _write_log(path: Path, commits: Sequence[bytes]) -> int:
    """Write a whole log, durably, and return its size in bytes."""
    data = b"".join(commits)
    if data:
        disk.reveal(disk.stage(path, data), path)
    return len(data)
