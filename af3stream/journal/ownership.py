"""Decide which process writes a session: the only server of a folder, or the holder of the session's newest lease.

A journal of one server needs no lease. The server holds a lock on the folder, and the files of a session are directly
in the session's folder. That is fence 0.

In a shared journal, a server takes a session by creating ``lease-<N+1>`` in the session's folder, where ``N`` is the
newest lease. The name appears by ``link``, which is atomic and fails if the name exists, also on NFS. ``N+1`` is the
fence of the new owner. It writes only in the subfolder ``fence-<N+1>``, so two owners never write one file.

    <session>/lease-1, lease-2                     who took the session, in MessagePack; never removed alone
    <session>/facts.json, events.log, ...          fence 0: what a journal of one server left
    <session>/fence-1/facts.json, events.log, ...  the files of the owner with fence 1
    <session>/fence-2/facts.json, events.log, ...  the newest folder with facts counts

An owner acknowledges in three steps: write and sync, then see that the next lease does not exist, then tell. A later
owner reads after it has created its lease. So it sees everything that was acknowledged before.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from errno import ESTALE
from pathlib import Path
from typing import Final, Protocol

import msgspec

from af3stream.errors import NoSession
from af3stream.journal import disk
from af3stream.journal.facts_file import FACTS, Signature, signature
from af3stream.journal.faults import point
from af3stream.journal.segments import session_folder

ABANDONED_S: Final = 600.0  # since an owner last showed that it lives
DELETED: Final = ".deleted"  # ends the name of a folder that is being removed; no session has such a name
_LEASE: Final = re.compile(r"lease-(\d+)")
_FENCE: Final = re.compile(r"fence-(\d+)")


class LeaseFile(msgspec.Struct, frozen=True):
    """The content of a lease: who took the session, with which fence."""

    owner: str
    fence: int


class Ownership(Protocol):
    """What the journal asks about the owner of a session.

    Attributes:
        shared: whether other processes may take sessions.
    """

    shared: bool

    def fence(self, session: str) -> int | None:
        """Return the fence whose files count, or ``None`` if no owner has written the session's facts.

        Raises:
            NoSession: if the id is not a valid one of a server.
        """

    def held(self, session: str) -> int | None:
        """Return the fence under which this process may write the session; ``None`` if it may not.

        What it wrote before this call may be acknowledged.
        """

    def holds(self, session: str) -> bool:
        """Return whether this process may write the session."""

    def newest(self, session: str) -> int:
        """Return the fence of the newest lease of a session, 0 before the first.

        Raises:
            NoSession: if the session has no folder.
        """

    def drop(self, session: str) -> None:
        """Write a session no more, until it is taken again."""

    def look(self, path: Path) -> Signature | None:
        """Return the signature of a file, or ``None`` if it does not exist."""


class SoleOwner:
    """One server writes all sessions of the folder."""

    shared = False

    def fence(self, session: str) -> int | None:
        """Return 0."""
        return 0

    def held(self, session: str) -> int | None:
        """Return 0."""
        return 0

    def holds(self, session: str) -> bool:
        """Return true."""
        return True

    def newest(self, session: str) -> int:
        """Return 0."""
        return 0

    def drop(self, session: str) -> None:
        """Do nothing: the session stays this server's."""

    def look(self, path: Path) -> Signature | None:
        """Return the signature of a file, or ``None`` if it does not exist."""
        return signature(path)


class Leases:
    """The leases of a shared journal, and which of them this process holds.

    Args:
        folder: of the journal.
        owner: name of this server; empty: the name of the host.

    Attributes:
        owner: the name in the leases of this process; no other process has the same.

    Raises:
        OSError: from any method, if the disk fails.
    """

    shared = True

    def __init__(self, folder: Path, owner: str = "") -> None:
        self.owner = f"{owner or socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._folder = folder
        self._held: dict[str, int] = {}

    def fence(self, session: str) -> int | None:
        """Return the held fence, else the newest one with facts. See `Ownership.fence`."""
        held = self.held(session)
        return held if held is not None else self._newest_facts(session)

    def held(self, session: str) -> int | None:
        """Return the fence of this process if it is the newest. Once it is not, it is forgotten.

        This costs two system calls. On a network file system, the first asks the server if negative lookups are not
        cached; the second does, because opening a file revalidates it. The second detects that the session is deleted.
        """
        fence = self._held.get(session)
        if fence is None:
            return None
        folder = session_folder(self._folder, session)
        if not _exists(folder / f"lease-{fence + 1}") and _opens(folder / f"lease-{fence}"):
            point("lease-checked")
            return fence
        self.drop(session)
        return None

    def holds(self, session: str) -> bool:
        """Return whether this process holds the newest lease."""
        return self.held(session) is not None

    def look(self, path: Path) -> Signature | None:
        """Return the signature of a file; opening it makes a network file system ask the server."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            found = os.fstat(file)
        finally:
            os.close(file)
        return Signature(found.st_ino, found.st_size, found.st_mtime_ns)

    def newest(self, session: str) -> int:
        """Return the fence of the newest lease of a session. See `Ownership.newest`."""
        try:
            names = os.listdir(session_folder(self._folder, session))  # noqa: PTH208 (bare names)
        except FileNotFoundError:
            raise NoSession("there is no such session") from None
        return max((int(found[1]) for name in names if (found := _LEASE.fullmatch(name))), default=0)

    def claim(self, session: str, after: int | None = None) -> int | None:
        """Create the next lease of a session, and return its fence. From then on, its owner acknowledges nothing.

        The name is durable when the folder of the fence is made.

        Args:
            after: claim only if this is still the newest fence; else return ``None``. Without it, claim in any case.

        Raises:
            NoSession: if the session has no folder.
        """
        while True:
            newest = self.newest(session)
            if after is not None and newest != after:
                return None
            if self._create(session_folder(self._folder, session), newest + 1):
                point("lease-claimed")
                return newest + 1
            if after is not None:
                return None

    def hold(self, session: str, fence: int) -> None:
        """Record that this process has written the facts of a session under a fence that it claimed."""
        self._held[session] = fence

    def drop(self, session: str) -> None:
        """Forget the lease of a session. See `Ownership.drop`."""
        self._held.pop(session, None)

    def read(self, session: str, fence: int) -> LeaseFile | None:
        """Return a lease of a session, or ``None`` if it does not exist."""
        try:
            data = (session_folder(self._folder, session) / f"lease-{fence}").read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.msgpack.decode(data, type=LeaseFile)

    def created_at(self, session: str, fence: int) -> float:
        """Return when a lease was created, in unix seconds; 0 if it does not exist."""
        try:
            return (session_folder(self._folder, session) / f"lease-{fence}").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _create(self, folder: Path, fence: int) -> bool:
        """Create a lease; return false if it exists."""
        path = folder / f"lease-{fence}"
        content = msgspec.msgpack.encode(LeaseFile(self.owner, fence))
        try:
            staged = disk.stage(folder / f"{path.name}.{secrets.token_hex(8)}", content)
        except FileNotFoundError:
            raise NoSession("there is no such session") from None
        try:
            os.link(staged, path)
        except FileExistsError:
            if path.read_bytes() != content:  # the same: the reply to an earlier attempt of the kernel was lost
                return False
        except FileNotFoundError:  # another server has removed the staged file, or the session
            return False
        finally:
            staged.unlink(missing_ok=True)
        return True

    def _newest_facts(self, session: str) -> int | None:
        folder = session_folder(self._folder, session)
        try:
            names = os.listdir(folder)  # noqa: PTH208 (bare names)
        except (FileNotFoundError, NotADirectoryError):
            return None
        fences = sorted((int(found[1]) for name in names if (found := _FENCE.fullmatch(name))), reverse=True)
        for fence in fences:
            if _exists(fence_folder(folder, fence) / FACTS):
                return fence
        return 0 if FACTS in names else None


def fence_folder(folder: Path, fence: int) -> Path:
    """Return the folder for the files of a fence, in the folder of its session."""
    return folder / f"fence-{fence}" if fence else folder


def _exists(path: Path) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 (on the path of every commit)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == ESTALE:  # the folder is deleted
            return False
        raise
    return True


def _opens(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == ESTALE:
            return False
        raise
    return True
