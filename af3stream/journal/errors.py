"""What can go wrong with what is stored.

::

    Refusal
    ├── DataLoss               data_loss       4500    no
    └── StorageFailed
        ├── StorageFull        storage_full    1013    yes, what waits is kept
        └── StorageError       storage_error   -       yes
    Af3StreamError
    └── TornRecord             inside the room: bytes that are not a whole record
"""

from __future__ import annotations

import errno
import sqlite3

from af3stream.errors import Af3StreamError, Refusal


class TornRecord(Af3StreamError):
    """Bytes that are not a whole record."""


class DataLoss(Refusal):
    """Something that was acknowledged is not there, or not as it was.

    Attributes:
        start, end: the first sample frame, or event number, of what is lost, and the first after it.
    """

    code, close_code = "data_loss", 4500

    def __init__(self, what: str, start: int, end: int) -> None:
        super().__init__(f"{what} {start} to {end} of this session are damaged or missing")
        self.start, self.end = start, end


class StorageFailed(Refusal):
    """The disk did not take something. What was acknowledged is safe."""

    retryable = True


class StorageFull(StorageFailed):
    """No room on the disk, or within the quota and the reserve."""

    code, close_code = "storage_full", 1013

    def __init__(self) -> None:
        super().__init__("there is no room left to store the session")


class StorageError(StorageFailed):
    """The disk, or the database, reported an error."""

    code = "storage_error"

    def __init__(self) -> None:
        super().__init__("the session could not be stored")


def storage_failed(error: Exception) -> StorageFailed:
    """What a failure of the disk or the database is to a peer, who is told no internals."""
    if isinstance(error, StorageFailed):
        return error
    if isinstance(error, OSError):
        return StorageFull() if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError()
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return StorageFull() if full else StorageError()
