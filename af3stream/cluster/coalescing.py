"""Send messages together: the queue of one way of a link. Pure: no clock, no socket.

Messages wait for others at most for the time that is configured. An urgent message is sent at once, with those before
it. The receiver grants **credit** for what it has processed. So no more than a window of bytes is on its way, however
slow the receiver is, and the queue behind it is bounded.
"""

from __future__ import annotations

from collections import deque
from typing import Final

BATCH_BYTES: Final = 1 << 20  # a frame is no longer, unless it is a single message


class QueueFull(Exception):
    """The receiver is too far behind."""


class Outgoing:
    """The messages that wait to be sent, and the bytes that the receiver has not processed.

    Args:
        coalesce_s: how long a message waits for others.
        credit: bytes that may be on their way. A single longer message is sent if nothing else is on its way.
        limit: bytes that may wait.
    """

    def __init__(self, coalesce_s: float, credit: int, limit: int) -> None:
        self._coalesce_s = coalesce_s
        self._credit = credit
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._due: float | None = None
        self.waiting_bytes = 0
        self.unprocessed = 0

    def put(self, message: bytes, now: float, *, urgent: bool = False) -> None:
        """Queue an encoded message; ``now``: clock seconds.

        Raises:
            QueueFull: if it does not fit the queue. A single longer message is taken if nothing else waits.
        """
        if self._waiting and self.waiting_bytes + len(message) > self._limit:
            raise QueueFull
        self._waiting.append(message)
        self.waiting_bytes += len(message)
        due = now if urgent else now + self._coalesce_s
        self._due = due if self._due is None else min(self._due, due)

    def grant(self, count: int) -> None:
        """The receiver has processed so many bytes."""
        self.unprocessed = max(0, self.unprocessed - count)

    @property
    def fullness(self) -> float:
        """How full the queue is: 0 is empty, 1 is full."""
        return self.waiting_bytes / self._limit

    @property
    def due(self) -> float | None:
        """When the next batch is due, in clock seconds; ``None``: nothing waits, or no credit is left for it."""
        return self._due if self._waiting and self._fits(len(self._waiting[0]), first=True) else None

    def take(self) -> list[bytes]:
        """Return the next batch, which `sent` must follow; what does not fit stays due."""
        batch: list[bytes] = []
        size = 0
        while self._waiting and self._fits(size + len(self._waiting[0]), first=not batch):
            if batch and size + len(self._waiting[0]) > BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
            size += len(batch[-1])
        self.waiting_bytes -= size
        if not self._waiting:
            self._due = None
        return batch

    def sent(self, count: int) -> None:
        """A frame of so many bytes is on its way."""
        self.unprocessed += count

    def _fits(self, size: int, *, first: bool) -> bool:
        return self.unprocessed + size <= self._credit or (first and not self.unprocessed)
