"""Append commits to logs of a session. A commit is completely on disk, or it does not count.

A commit is ``magic, durable, first, length, crc32`` and ``length`` bytes: a list of messages, in MessagePack. The
checksum covers everything except itself. So a torn commit is detected, and the items of a commit are kept or lost
together.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from af3stream.errors import DataLoss
from af3stream.journal import disk
from af3stream.journal.errors import TornRecord
from af3stream.journal.faults import point
from af3stream.journal.segments import Mark

MAGIC: Final = b"AF3c"
_FACTS: Final = struct.Struct("<4sQQI")  # magic, durable, first, length
_CHECKSUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _FACTS.size + _CHECKSUM.size


@dataclass(frozen=True, slots=True)
class LogCommit:
    """Items that became durable together.

    Attributes:
        durable: number of audio frames that were durable before this commit was written.
        first: number of the first item; items count from 1.
        end: offset of the byte after the commit.
    """

    durable: int
    first: int
    items: list[bytes]
    end: int


@dataclass(frozen=True, slots=True)
class LogContent:
    """The complete commits of a log, up to the first torn one.

    Attributes:
        items: the items of all commits, in order.
        durable: number of audio frames that the newest commit names.
        data: the bytes of the complete commits.
    """

    items: list[bytes]
    durable: int
    data: bytes

    @property
    def size(self) -> int:
        """Bytes of the complete commits."""
        return len(self.data)


def encode(durable: int, first: int, items: Sequence[bytes]) -> bytes:
    """Return the bytes of a commit on disk."""
    body = msgspec.msgpack.encode(items)
    facts = _FACTS.pack(MAGIC, durable, first, len(body))
    return facts + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(facts))) + body


def decode(data: bytes, at: int) -> LogCommit:
    """Read the commit that begins at byte ``at``.

    Raises:
        TornRecord: if the bytes there are not a complete commit.
    """
    start = at + HEADER_BYTES
    if len(data) < start:
        raise TornRecord(f"{len(data) - at} bytes at {at}, expected at least {HEADER_BYTES}")
    magic, durable, first, length = _FACTS.unpack_from(data, at)
    body = data[start : start + length]
    if magic != MAGIC or len(body) != length:
        raise TornRecord(f"no whole commit at byte {at}")
    (checksum,) = _CHECKSUM.unpack_from(data, at + _FACTS.size)
    if checksum != zlib.crc32(body, zlib.crc32(data[at : at + _FACTS.size])):
        raise TornRecord(f"the commit at byte {at} does not match its checksum")
    return LogCommit(durable, first, msgspec.msgpack.decode(body, type=list[bytes]), start + length)


def scan(data: bytes) -> LogContent:
    """Read consecutive commits, up to the first one that is torn or skips a number."""
    items: list[bytes] = []
    at = durable = 0
    while at < len(data):
        try:
            commit = decode(data, at)
        except TornRecord:
            break
        if commit.first != len(items) + 1:
            break
        items += commit.items
        at, durable = commit.end, max(durable, commit.durable)
    return LogContent(items, durable, data[:at])


def checked(data: bytes, unit: str, *, least_bytes: int, least_items: int) -> LogContent:
    """Read a log, and check that nothing durable is missing.

    Args:
        unit: name of the items in the error message.
        least_bytes, least_items: how much is known to be durable.

    Raises:
        DataLoss: if durable data is damaged or missing.
    """
    content = scan(data)
    missing = len(content.items) + 1
    later = _next_first(data, content.size)
    if later is not None or content.size < least_bytes or len(content.items) < least_items:
        raise DataLoss(unit, missing, max(missing + 1, later or least_items + 1))
    return content


def _next_first(data: bytes, at: int) -> int | None:
    """Return the first item number of the next complete commit after byte ``at``. Only a synced log has one."""
    while (at := data.find(MAGIC, at)) >= 0:
        try:
            return decode(data, at).first
        except TornRecord:
            at += 1
    return None


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a log; empty if the log does not exist yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def read(folder: Path, name: str, *, least_bytes: int = 0, least_items: int = 0) -> LogContent:
    """Read the log ``name`` of a session's folder. A server may write it at the same time.

    Raises:
        DataLoss: if acknowledged data is damaged or missing.
    """
    least_bytes = max(least_bytes, Mark.read(folder, mark_name(name)))  # read the mark first: the log only grows
    return checked(read_bytes(folder / name), Path(name).stem, least_bytes=least_bytes, least_items=least_items)


def mark_name(name: str) -> str:
    """Return the name of the file that records the acknowledged bytes of a log. That file is not synced."""
    return Path(name).with_suffix(".mark").name


class CommitLog:
    """Write one log of a session.

    A file is appended to only if this process has synced it, and no sync of it failed. Otherwise its complete commits
    and the new one are written to another file, which then takes its name.

    Args:
        synced: whether this process has synced the file.

    Attributes:
        count: number of durable items.
        durable: number of audio frames that the newest commit names.
        size: durable bytes.
    """

    def __init__(self, folder: Path, name: str, *, synced: bool = False) -> None:
        content = scan(read_bytes(folder / name))
        self.count, self.durable, self.size = len(content.items), content.durable, content.size
        self._folder, self._path = folder, folder / name
        self._synced = synced

    def make_durable(self) -> None:
        """Write the content again if another process may have left it without a sync.

        Raises:
            OSError: if the disk fails.
        """
        if not self._synced and self.size:
            self._rewrite(b"")

    def append(self, items: Sequence[bytes], durable: int) -> None:
        """Add a commit. It is durable when this returns.

        Raises:
            OSError: if the disk fails; the commit then does not count.
        """
        data = encode(durable, self.count + 1, items)
        if self._synced:
            self._extend(data)
        else:
            self._rewrite(data)
        self.count += len(items)
        self.durable = max(self.durable, durable)
        self.size += len(data)
        self._acknowledge()

    def _extend(self, data: bytes) -> None:
        self._synced = False
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            disk.write_all(file, data)
            point("log-commit")
            disk.sync_data(file)
        finally:
            os.close(file)
        self._synced = True

    def _rewrite(self, data: bytes) -> None:
        whole = read_bytes(self._path)[: self.size]
        if len(whole) < self.size:
            raise FileNotFoundError(f"{self._path} is shorter than what was durable")
        staged = disk.stage(self._path, whole + data)
        point("log-commit")
        disk.reveal(staged, self._path)
        self._synced = True

    def _acknowledge(self) -> None:
        """Write the mark. If the disk fails, the older mark stays, which is still valid."""
        with suppress(OSError):
            mark = Mark(self._folder, mark_name(self._path.name))
            mark.write(self.size)
            mark.close()
