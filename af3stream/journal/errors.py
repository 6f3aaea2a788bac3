"""What can go wrong inside the room, and what it is to a peer."""

from __future__ import annotations

import errno

from af3stream.errors import Af3StreamError, StorageError, StorageFull


class TornRecord(Af3StreamError):
    """Bytes that are not a whole record."""


class DamagedFacts(OSError):
    """A session's facts cannot be read."""


def storage_failed(error: OSError | StorageError) -> StorageError:
    """Return what a failure of the disk is to a peer, who is told no internals."""
    if isinstance(error, StorageError):
        return error
    return StorageFull() if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError()
