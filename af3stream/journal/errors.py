"""Errors inside the journal, and the errors that peers get for them."""

from __future__ import annotations

import errno

from af3stream.errors import Af3StreamError, StorageError, StorageFull, Superseded


class TornRecord(Af3StreamError):
    """The bytes are not a complete record."""


class DamagedFacts(OSError):
    """A session's facts cannot be read."""


def storage_failed(error: OSError | StorageError) -> StorageError:
    """Return the error for the peer, without internal details."""
    if isinstance(error, StorageError):
        return error
    return StorageFull() if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError()


def superseded() -> Superseded:
    """Return the error for a session whose lease another server has taken."""
    return Superseded("another server took the session over")
