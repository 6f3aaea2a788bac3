"""Messages on their way from the socket to the caller."""

from __future__ import annotations

from collections import deque

from af3stream.client.errors import ReaderTooSlow
from af3stream.protocol.messages import Caption, ServerMessage


class InterimsDroppedFirst:
    """A bounded queue. When it is full, the oldest interim caption makes room; nothing else is ever dropped in silence.

    A full queue without an interim is overrun: it takes nothing more, and its reader is told once it has read the rest.
    The socket is read all the same, so that answers, credit and pings never wait for a caller who reads no messages.
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
        """Add a message, at the cost of the oldest interim when the queue is full."""
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
            ReaderTooSlow: when the queue was overrun, and all that it kept has been taken.
        """
        if not self._waiting:
            raise ReaderTooSlow(f"{self.capacity} messages waited to be read, and more came")
        return self._waiting.popleft()


def _is_interim(message: ServerMessage) -> bool:
    return isinstance(message, Caption) and not message.final
