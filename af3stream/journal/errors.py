"""What can go wrong inside the room, and what it is to a peer."""

from __future__ import annotations

import errno
import sqlite3

from af3stream.errors import Af3StreamError, StorageError, StorageFull


class TornRecord(Af3StreamError):
    """Bytes that are not a whole record."""


def storage_failed(error: Exception) -> StorageError:
    """What a failure of the disk or the database is to a peer, who is told no internals."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, OSError):
        return StorageFull() if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError()
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return StorageFull() if full else StorageError()
