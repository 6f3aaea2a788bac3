"""Labelled points of the write path, at which a test can observe, raise an error, or kill the process.

Without a hook, and without ``$AF3STREAM_KILL_AT``, a point does nothing. ``AF3STREAM_KILL_AT=label`` or ``label:n``
kills the process with SIGKILL when it passes the label for the n-th time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

POINTS: Final = (
    "segment-create",  # a raw file is about to be created
    "segment-created",  # the file and its name are on disk
    "audio-write",  # records are about to be written
    "audio-written",  # records are written, and about to be synced
    "audio-synced",
    "mark-written",
    "events-insert",  # a commit of events is about to be written
    "log-commit",  # a commit is written to a log, or to its replacement, and not synced
    "events-committed",
    "tell",  # the durable state is about to be reported
    "segment-closed",
    "seal-encoded",
    "seal-staged",  # the sealed file is on disk under a temporary name
    "seal-verified",
    "seal-revealed",  # the sealed file has its name
    "seal-recorded",
    "raw-removed",
    "tail-staged",  # recovery has written the records above the mark again
    "tail-revealed",
    "session-forgotten",  # the facts of a session are deleted, and its other files are not
    "session-deleted",
    "lease-claimed",  # a lease is created, and its owner has read nothing yet
    "takeover-written",  # a new owner has written everything but its facts
    "takeover-done",  # the facts of a new owner are on disk, and count
    "lease-checked",  # no newer lease was seen; the acknowledgement follows
)
Hook = Callable[[str], None]


def point(label: str) -> None:
    """Pass a labelled point."""
    for hook in _hooks:
        hook(label)


@contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Call ``hook(label)`` at every point within the context; an error of the hook is raised from the point."""
    _hooks.append(hook)
    try:
        yield
    finally:
        _hooks.remove(hook)


def killer(order: str) -> Hook:
    """Return the hook that ``$AF3STREAM_KILL_AT`` describes.

    Raises:
        ValueError: if the label does not exist.
    """
    label, _, count = order.partition(":")
    if label not in POINTS:
        raise ValueError(f"AF3STREAM_KILL_AT names {label!r}, expected one of {', '.join(POINTS)}")
    left = [int(count or 1)]

    def kill(passed: str) -> None:
        left[0] -= passed == label
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


_hooks: list[Hook] = [killer(order)] if (order := os.environ.get("AF3STREAM_KILL_AT")) else []
