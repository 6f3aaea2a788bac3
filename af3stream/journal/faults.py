"""Labelled points of the write path, where a test may look, fail, or die.

Without a hook, and without ``$AF3STREAM_KILL_AT``, a point does nothing. ``AF3STREAM_KILL_AT=label`` or ``label:n``
ends the process by SIGKILL when it passes the label for the n-th time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

POINTS: Final = (
    "segment-create",  # a raw file is about to be made
    "segment-created",  # it, and its name, are on disk
    "audio-write",  # records are about to be written
    "audio-written",  # ... and are about to be synced
    "audio-synced",
    "mark-written",
    "events-insert",  # a commit of events is about to be written
    "log-commit",  # a commit stands in a log, not synced; or in the log's successor, under another name
    "events-committed",
    "tell",  # what is durable is about to be told
    "segment-closed",
    "seal-encoded",
    "seal-staged",  # the sealed file is on disk under another name
    "seal-verified",
    "seal-revealed",  # ... under its name
    "seal-recorded",
    "raw-removed",
    "tail-staged",  # recovery writes again what stood above the mark
    "tail-revealed",
    "session-forgotten",  # a session's facts are gone, its other files are there
    "session-deleted",
)
Hook = Callable[[str], None]


def point(label: str) -> None:
    """Pass a labelled point."""
    for hook in _hooks:
        hook(label)


@contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Call ``hook(label)`` at every point meanwhile; what it raises comes out of the point."""
    _hooks.append(hook)
    try:
        yield
    finally:
        _hooks.remove(hook)


def killer(order: str) -> Hook:
    """The hook that ``$AF3STREAM_KILL_AT`` asks for.

    Raises:
        ValueError: for a label that does not exist.
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
