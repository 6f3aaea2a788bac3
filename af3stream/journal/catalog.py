"""Store facts, events and sealed segments of each session: everything in its folder except the audio.

Every write is durable when the method returns. A folder holds:

    facts.json      what the session is, its token and its state; replaced as a whole
    events.log      its events, in commits
    segments.log    which segments are sealed, in commits

Facts are cached. They are read again when the file has changed, because another process may delete a session.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any, Final

import msgspec

from af3stream.errors import NoSession, StorageError
from af3stream.journal import commit_log, disk
from af3stream.journal.commit_log import CommitLog
from af3stream.journal.errors import storage_failed
from af3stream.journal.facts import Row, SessionFacts
from af3stream.journal.facts_file import FACTS, FactsFile, Signature, read_facts, signature, write_facts
from af3stream.journal.faults import point
from af3stream.journal.records import EventRecord
from af3stream.journal.segments import Sealed, session_folder

log = logging.getLogger(__name__)

EVENTS: Final = "events.log"
SEGMENTS: Final = "segments.log"


@dataclass(slots=True)
class _Cached:
    """A session's facts and the length of its event log, each with the signature of the file that was read."""

    signature: Signature
    facts: FactsFile
    log_signature: Signature | None = None
    durable: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class _OpenLogs:
    events: CommitLog
    segments: CommitLog


class Catalog:
    """Manage the facts and logs of all sessions of a journal.

    Threads may share it; events and segments must be written by one thread only.

    Raises:
        ConfigError: if a session was written by another version of the program.
        StorageError: from any method, if the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = RLock()
        self._cached: dict[str, _Cached] = {}
        self._tokens: dict[bytes, str] | None = None  # built when it is first needed
        self._logs: dict[str, _OpenLogs] = {}

    def create(self, facts: SessionFacts) -> None:
        """Add a session.

        Raises:
            StorageError: also if the session exists already.
        """
        folder = session_folder(self._folder, facts.session)
        with self._lock:
            if self._facts(facts.session) is not None:
                raise StorageError
            try:
                disk.make_folder(folder)
                self._write(facts.session, FactsFile.of(facts))
            except OSError as error:
                raise storage_failed(error) from error

    def row(self, session: str) -> Row | None:
        """Return a session, or ``None`` if it does not exist."""
        with self._lock:
            file = self._facts(session)
            if file is None:
                return None
            durable, events = self._reached(session, file)
            return Row(file.session_facts(session), file.touched_at, file.finished_at, durable, events)

    def rows(self) -> list[Row]:
        """Return all sessions, the oldest first. A session with damaged facts is logged and left out."""
        rows = []
        for session in self._names():
            try:
                row = self.row(session)
            except StorageError as error:
                log.error("a session's facts cannot be read: session=%s error=%s", session, error.__cause__)
                continue
            rows += [row] if row else []
        return sorted(rows, key=lambda row: (row.facts.created_at, row.facts.session))

    def set_token(self, session: str, token_hash: bytes, expires_at: float, before: bytes | None) -> None:
        """Set the token of a session. ``before``, the token that resumed it, stays valid until `confirm_token`."""
        self._update(session, token_hash=token_hash, token_expires_at=expires_at, token_before=before)

    def confirm_token(self, session: str, token_hash: bytes) -> None:
        """Invalidate the previous token, if this token is the newest."""
        with self._lock:
            file = self._facts(session)
            if file is not None and file.token_hash == token_hash and file.token_before is not None:
                self._update(session, token_before=None)

    def session_of_token(self, token_hash: bytes, now: float) -> str | None:
        """Return the session that a token resumes; ``None`` if there is none, or the token has expired."""
        with self._lock:
            if self._tokens is None:
                self._tokens = {}
                for row in self.rows():
                    self._index(row.facts.session, self._cached[row.facts.session].facts)
            session = self._tokens.get(token_hash)
            file = self._facts(session) if session else None
            good = file is not None and token_hash in file.tokens and file.token_expires_at > now
            return session if good else None

    def touch(self, session: str, now: float) -> None:
        """Record the time at which a client last used the session."""
        self._update(session, touched_at=now)

    def finish(self, session: str, durable: int, now: float) -> None:
        """Record that the session has ended, and its number of frames."""
        self._close(session, durable, finished_at=now, touched_at=now)

    def set_durable(self, session: str, durable: int) -> None:
        """Record that all frames before ``durable`` are durable, and close the session."""
        self._close(session, durable)

    def delete(self, session: str) -> None:
        """Delete the facts of a session. Without them, its folder is ignored."""
        with self._lock:
            self._logs.pop(session, None)
            path = session_folder(self._folder, session) / FACTS
            try:
                with suppress(FileNotFoundError):
                    disk.remove(path)
            except OSError as error:
                raise storage_failed(error) from error
            self._forget(session)

    def open(self, session: str) -> None:
        """Open a session's logs for writing, and make their content durable."""
        folder = session_folder(self._folder, session)
        try:
            logs = _OpenLogs(CommitLog(folder, EVENTS), CommitLog(folder, SEGMENTS))
            logs.events.make_durable()
        except OSError as error:
            raise storage_failed(error) from error
        self._logs[session] = logs

    def commit(self, session: str, events: Sequence[EventRecord], durable: int) -> None:
        """Add events of an open session in one commit, with the number of its durable frames."""
        try:
            point("events-insert")
            self._logs[session].events.append([event.message for event in events], durable)
            point("events-committed")
        except OSError as error:
            raise storage_failed(error) from error

    def events(self, session: str) -> list[EventRecord]:
        """Return all durable events of a session, by number.

        Raises:
            DataLoss: if an event is missing or damaged.
        """
        with self._lock:
            file, logs = self._facts(session), self._logs.get(session)
        if file is None:
            return []
        count = logs.events.count if logs else None  # events that are not synced yet do not count
        least = {"least_bytes": file.log_bytes, "least_items": max(file.events, count or 0)}
        items = self._read(session, EVENTS, **least)[:count]
        return [EventRecord(number, message) for number, message in enumerate(items, start=1)]

    def add_segment(self, session: str, sealed: Sealed) -> None:
        """Record that a segment is sealed."""
        logs = self._logs.get(session)
        try:
            segments = logs.segments if logs else CommitLog(session_folder(self._folder, session), SEGMENTS)
            segments.append([msgspec.msgpack.encode(sealed)], sealed.end)
        except OSError as error:
            raise storage_failed(error) from error

    def segments(self, session: str) -> list[Sealed]:
        """Return the sealed segments of a session, in order.

        Raises:
            DataLoss: if their log is damaged.
        """
        decoded = (msgspec.msgpack.decode(item, type=Sealed) for item in self._read(session, SEGMENTS))
        newest = {sealed.number: sealed for sealed in decoded}
        return [newest[number] for number in sorted(newest)]

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._folder / "sessions")  # noqa: PTH208 (thousands of names)
        except OSError as error:
            raise storage_failed(error) from error

    def _read(self, session: str, name: str, **least: int) -> list[bytes]:
        try:
            return commit_log.read(session_folder(self._folder, session), name, **least).items
        except OSError as error:
            raise storage_failed(error) from error

    def _facts(self, session: str) -> FactsFile | None:
        """Return the content of a session's file."""
        try:
            path = session_folder(self._folder, session) / FACTS
            found = signature(path)
            cached = self._cached.get(session)
            if found and not (cached and cached.signature == found):
                self._remember(session, found, read_facts(path))
        except NoSession:
            return None
        except FileNotFoundError:
            found = None
        except OSError as error:
            raise storage_failed(error) from error
        if found is None:
            self._forget(session)
            return None
        return self._cached[session].facts

    def _reached(self, session: str, file: FactsFile) -> tuple[int, int]:
        """Return how many frames and events of a session are known to be durable."""
        if logs := self._logs.get(session):
            return max(file.durable, logs.events.durable), logs.events.count
        path, cached = session_folder(self._folder, session) / EVENTS, self._cached[session]
        try:
            found = signature(path)
            if found is None or found.size == file.log_bytes:
                return file.durable, file.events
            if cached.log_signature != found:
                content = commit_log.scan(commit_log.read_bytes(path))
                cached.log_signature, cached.durable, cached.events = found, content.durable, len(content.items)
        except OSError as error:
            raise storage_failed(error) from error
        return max(file.durable, cached.durable), cached.events

    def _close(self, session: str, durable: int, **changes: Any) -> None:
        """Write the length of the event log into the facts, so that listing sessions reads no log."""
        with self._lock:
            file, logs = self._facts(session), self._logs.get(session)
            if file is None:
                return
            if logs:
                changes |= {"events": logs.events.count, "log_bytes": logs.events.size}
                durable = max(durable, logs.events.durable)
            self._update(session, durable=max(durable, file.durable), **changes)
            self._logs.pop(session, None)

    def _update(self, session: str, **changes: Any) -> None:
        """Replace some of a session's facts, if the session exists."""
        with self._lock:
            file = self._facts(session)
            if file is None:
                return
            try:
                self._write(session, msgspec.structs.replace(file, **changes))
            except OSError as error:
                raise storage_failed(error) from error

    def _write(self, session: str, file: FactsFile) -> None:
        path = session_folder(self._folder, session) / FACTS
        self._remember(session, write_facts(path, file), file)

    def _remember(self, session: str, found: Signature, file: FactsFile) -> None:
        cached = self._cached.get(session)
        self._forget(session)
        self._cached[session] = replace(cached, signature=found, facts=file) if cached else _Cached(found, file)
        self._index(session, file)

    def _index(self, session: str, file: FactsFile) -> None:
        if self._tokens is not None:
            self._tokens.update(dict.fromkeys(file.tokens, session))

    def _forget(self, session: str) -> None:
        cached = self._cached.pop(session, None)
        if cached and self._tokens is not None:
            for token in cached.facts.tokens:
                self._tokens.pop(token, None)
