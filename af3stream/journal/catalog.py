"""Store facts, events and sealed segments of each session: everything in its folder except the audio.

Every write is durable when the method returns. A folder holds:

    facts.json      what the session is, its token and its state; replaced as a whole
    events.log      its events, in commits
    segments.log    which segments are sealed, in commits

Facts are cached. They are read again when the file has changed, because another process may delete or take a session.

In a shared journal, the folder is the one of the newest owner (`af3stream.journal.ownership`). An owner that has lost
its lease changes nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

import msgspec

from af3stream.errors import NoSession, StorageError
from af3stream.journal import commit_log, disk, owner_files
from af3stream.journal.commit_log import CommitLog, LogContent
from af3stream.journal.errors import storage_failed, superseded
from af3stream.journal.facts import Row, SessionFacts
from af3stream.journal.facts_file import FACTS, FactsFile, Signature, read_facts, signature, write_facts
from af3stream.journal.faults import point
from af3stream.journal.owner_files import EVENTS, SEGMENTS
from af3stream.journal.ownership import Leases, Ownership, fence_folder
from af3stream.journal.records import EventRecord
from af3stream.journal.segments import Sealed, session_folder

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Cached:
    """A session's facts and the length of its event log, each with the signature of the file that was read.

    Attributes:
        fence, folder: the owner that wrote the facts, and its folder.
    """

    fence: int
    folder: Path
    signature: Signature
    facts: FactsFile
    log_signature: Signature | None = None
    durable: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class _OpenLogs:
    folder: Path
    events: CommitLog
    segments: CommitLog


@dataclass(frozen=True, slots=True)
class TakenAudio:
    """What a new owner found of a session's audio.

    Attributes:
        last: number of the last file of lower fences that counts; later ones were copied.
        end: the first missing frame.
    """

    last: int
    end: int


class Catalog:
    """Manage the facts and logs of all sessions of a journal.

    Threads may share it; events and segments must be written by one thread only.

    Raises:
        ConfigError: if a session was written by another version of the program.
        StorageError: from any method, if the disk fails.
    """

    def __init__(self, folder: Path, ownership: Ownership) -> None:
        self._folder = folder
        self._ownership = ownership
        self._lock = RLock()
        self._cached: dict[str, _Cached] = {}
        self._tokens: dict[bytes, str] | None = None  # built when it is first needed
        self._logs: dict[str, _OpenLogs] = {}

    def create(self, facts: SessionFacts) -> None:
        """Add a session, and take it.

        Raises:
            StorageError: also if the session exists already.
        """
        folder, leases = session_folder(self._folder, facts.session), self._ownership
        with self._lock:
            if self._facts(facts.session) is not None:
                raise StorageError
            try:
                disk.make_folder(folder)
                if not isinstance(leases, Leases):
                    self._write(facts.session, 0, folder, FactsFile.of(facts))
                    return
                fence = leases.claim(facts.session, after=0)
                if fence is None:
                    raise StorageError
                disk.make_folder(fence_folder(folder, fence))
                self._write(facts.session, fence, fence_folder(folder, fence), FactsFile.of(facts, live=True))
                leases.hold(facts.session, fence)
            except OSError as error:
                raise storage_failed(error) from error

    def row(self, session: str) -> Row | None:
        """Return a session, or ``None`` if it does not exist."""
        with self._lock:
            file = self._facts(session)
            if file is None:
                return None
            durable, events = self._reached(session, file)
            cached, folder = self._cached[session], session_folder(self._folder, session)
            lower = [(fence_folder(folder, fence), last) for fence, last in file.lower]
            return Row(
                file.session_facts(session),
                file.touched_at,
                file.finished_at,
                durable,
                events,
                file.live,
                cached.fence,
                (*lower, (cached.folder, None)),
                file.events,
                file.log_bytes,
                file.engine,
            )

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
        """Set the token of a session. ``before``, the token that resumed it, stays valid until `confirm_token`.

        Raises:
            Superseded: if another server has taken the session. The token then does not count.
        """
        if not self._update(session, token_hash=token_hash, token_expires_at=expires_at, token_before=before):
            raise superseded()

    def confirm_token(self, session: str, token_hash: bytes) -> None:
        """Invalidate the previous token, if this token is the newest."""
        with self._lock:
            file = self._facts(session)
            if file is not None and file.token_hash == token_hash and file.token_before is not None:
                self._update(session, token_before=None)

    def session_of_token(self, token_hash: bytes, now: float, named: str | None) -> str | None:
        """Return the session that a token resumes; ``None`` if there is none, or the token has expired.

        Args:
            named: the session that the token names; ``None`` for a token of an older version, which needs an index of
                all sessions.
        """
        with self._lock:
            session = named if named is not None else self._indexed().get(token_hash)
            file = self._facts(session) if session else None
            good = file is not None and token_hash in file.tokens and file.token_expires_at > now
            return session if good else None

    def _indexed(self) -> dict[bytes, str]:
        if self._tokens is None:
            self._tokens = {}
            for row in self.rows():
                self._index(row.facts.session, self._cached[row.facts.session].facts)
        return self._tokens

    def touch(self, session: str, now: float) -> None:
        """Record the time at which a client last used the session."""
        self._update(session, touched_at=now)

    def set_engine(self, session: str, engine: str) -> None:
        """Record the name of the engine that serves the session."""
        self._update(session, engine=engine)

    def set_live(self, session: str) -> None:
        """Record that the owner of a session has it open, if that is not recorded yet."""
        with self._lock:
            if self._ownership.shared and (file := self._facts(session)) and not file.live:
                self._update(session, live=True)

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

    def drop(self, session: str) -> None:
        """Forget what is open and cached of a session that another server has taken."""
        with self._lock:
            self._logs.pop(session, None)
            self._forget(session)

    def take_over(self, row: Row, fence: int, audio: TakenAudio, events: LogContent, **changes: Any) -> None:
        """Continue a session under a fence that was claimed. The files of the new owner count when this returns.

        The logs of the session are open then.

        Args:
            row: the session under its earlier owner, as it was read after the claim.
            audio: what counts of its audio; the rest is in the folder of the new owner.
            events: the whole event log.
            changes: of the facts.

        Raises:
            Superseded: if another server has taken the session meanwhile.
        """
        assert isinstance(self._ownership, Leases)
        session = row.facts.session
        folder = fence_folder(session_folder(self._folder, session), fence)
        with self._lock:
            try:
                if events.size:
                    disk.stage(folder / EVENTS, events.data).replace(folder / EVENTS)
                disk.sync_folder(folder)  # the copied audio is there, too
                point("takeover-written")
                file = read_facts(row.folder / FACTS)
                lower = (*file.lower, (row.fence, audio.last))
                kept = {"durable": audio.end, "events": len(events.items), "log_bytes": events.size, "lower": lower}
                self._write(session, fence, folder, msgspec.structs.replace(file, **(kept | changes)))
                point("takeover-done")
                self._ownership.hold(session, fence)
                if self._ownership.holds(session):
                    own = CommitLog(folder, EVENTS, synced=events.size > 0)
                    self._logs[session] = _OpenLogs(folder, own, CommitLog(folder, SEGMENTS))
                    return
            except OSError as error:
                raise storage_failed(error) from error
            self._forget(session)
        raise superseded()

    def open(self, row: Row) -> None:
        """Open a session's logs for writing, and make their content durable, unless a takeover has done so."""
        folder, opened = row.folder, self._logs.get(row.facts.session)
        if opened and opened.folder == folder:
            return
        try:
            logs = _OpenLogs(folder, CommitLog(folder, EVENTS), CommitLog(folder, SEGMENTS))
            logs.events.make_durable()
        except OSError as error:
            raise storage_failed(error) from error
        self._logs[row.facts.session] = logs

    def commit(self, session: str, events: Sequence[EventRecord], durable: int) -> None:
        """Add events of an open session in one commit, with the number of its durable frames."""
        try:
            point("events-insert")
            self._logs[session].events.append([event.message for event in events], durable)
            point("events-committed")
        except OSError as error:
            raise storage_failed(error) from error

    def events(self, row: Row) -> list[EventRecord]:
        """Return all durable events of a session, by number.

        Raises:
            DataLoss: if an event is missing or damaged.
        """
        logs = self._logs.get(row.facts.session)
        count = logs.events.count if logs else None  # events that are not synced yet do not count
        items = owner_files.events(row, count or 0).items[:count]
        return [EventRecord(number, message) for number, message in enumerate(items, start=1)]

    def add_segment(self, session: str, folder: Path, sealed: Sealed) -> None:
        """Record that a segment is sealed, in a folder of the session."""
        logs = self._logs.get(session)
        try:
            segments = logs.segments if logs and logs.folder == folder else CommitLog(folder, SEGMENTS)
            segments.append([msgspec.msgpack.encode(sealed)], sealed.end)
        except OSError as error:
            raise storage_failed(error) from error

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._folder / "sessions")  # noqa: PTH208 (thousands of names)
        except OSError as error:
            raise storage_failed(error) from error

    def _facts(self, session: str) -> FactsFile | None:
        """Return the content of a session's file."""
        try:
            fence, folder = self._ownership.fence(session), session_folder(self._folder, session)
            found = None
            if fence is not None:
                folder = fence_folder(folder, fence)
                found = self._ownership.look(folder / FACTS)
                cached = self._cached.get(session)
                if found and not (cached and cached.signature == found):
                    self._remember(session, fence, folder, found, read_facts(folder / FACTS))
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
        cached = self._cached[session]
        path = cached.folder / EVENTS
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
            self._update(session, durable=max(durable, file.durable), live=False, **changes)
            self._logs.pop(session, None)

    def _update(self, session: str, **changes: Any) -> bool:
        """Replace some of a session's facts, if the session exists; return false if another server has taken it."""
        with self._lock:
            try:
                fence = self._ownership.held(session)
                if fence is None:
                    return False
                file = self._facts(session)
                if file is not None:
                    cached = self._cached[session]
                    if cached.fence != fence:  # another server has taken the session since it was checked
                        return False
                    self._write(session, cached.fence, cached.folder, msgspec.structs.replace(file, **changes))
                return self._ownership.holds(session)
            except NoSession:
                return True
            except OSError as error:
                raise storage_failed(error) from error

    def _write(self, session: str, fence: int, folder: Path, file: FactsFile) -> None:
        self._remember(session, fence, folder, write_facts(folder / FACTS, file), file)

    def _remember(self, session: str, fence: int, folder: Path, found: Signature, file: FactsFile) -> None:
        cached = self._cached.get(session)
        self._forget(session)
        if cached and cached.folder == folder:
            self._cached[session] = replace(cached, signature=found, facts=file)
        else:
            self._cached[session] = _Cached(fence, folder, found, file)
        self._index(session, file)

    def _index(self, session: str, file: FactsFile) -> None:
        if self._tokens is not None:
            self._tokens.update(dict.fromkeys(file.tokens, session))

    def _forget(self, session: str) -> None:
        cached = self._cached.pop(session, None)
        if cached and self._tokens is not None:
            for token in cached.facts.tokens:
                self._tokens.pop(token, None)
