"""Queue received messages until the caller reads them."""

from __future__ import annotations

from collections import deque

from af3stream.client.errors import ReaderTooSlow
from af3stream.protocol.messages import Caption, ServerMessage


class InterimsDroppedFirst:
    """A bounded queue. If it is full, the oldest interim caption is dropped.

    If a full queue has no interim caption, it overruns: it drops every further message, and ``take`` raises an error
    after the queued messages. The socket is read all the time, so a slow caller delays no answer, credit or ping.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._waiting: deque[ServerMessage] = deque()
        self._overrun = False

    @property
    def readable(self) -> bool:
        """Whether ``take`` has a message, or an error to raise."""
        return bool(self._waiting) or self._overrun

    def put(self, message: ServerMessage) -> None:
        """Add a message. If the queue is full, drop the oldest interim caption."""
        if self._overrun:
            return
        self._waiting.append(message)
        if len(self._waiting) <= self.capacity:
            return
        oldest = next((index for index, waiting in enumerate(self._waiting) if _is_interim(waiting)), None)
        if oldest is None:
            self._waiting.pop()
            self._overrun = True
        else:
            del self._waiting[oldest]

    def take(self) -> ServerMessage:
        """Remove and return the oldest message of a readable queue.

        Raises:
            ReaderTooSlow: if the queue has overrun and is empty.
        """
        if not self._waiting:
            raise ReaderTooSlow(f"{self.capacity} messages waited to be read, and more came")
        return self._waiting.popleft()


def _is_interim(message: ServerMessage) -> bool:
    return isinstance(message, Caption) and not message.final
