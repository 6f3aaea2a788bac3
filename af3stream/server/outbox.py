"""Queue messages for one peer. The queue is bounded, and drops interim captions first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from af3stream.errors import SlowConsumer
from af3stream.protocol.messages import Ack, Caption, ServerMessage


class DropInterimsOutbox:
    """A queue of at most ``limit`` messages, besides the greeting.

    If it is full, it drops interim captions, and acknowledgements that a later one replaces. If that is not enough, the
    peer is too slow.

    Attributes:
        closed: whether messages are no longer accepted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[ServerMessage] = deque()
        self._greeting = 0  # number of messages at the front that do not count
        self._filled = asyncio.Event()
        self.closed = False

    def greet(self, messages: Iterable[ServerMessage]) -> None:
        """Add the first messages. There are as many as the peer missed, and they do not count against the limit."""
        if self.closed:
            return
        self._messages.extend(messages)
        self._greeting = len(self._messages)
        self._filled.set()

    def put(self, messages: Iterable[ServerMessage]) -> None:
        """Add messages.

        Raises:
            SlowConsumer: if they do not fit; the queue is then emptied.
        """
        if self.closed:
            return
        self._messages.extend(messages)
        if self._full:
            self._messages = deque(message for message in self._messages if not _gives_way(message))
        if self._full:
            self._messages.clear()
            raise SlowConsumer(f"{self._limit} messages wait to be read")
        self._filled.set()

    @property
    def _full(self) -> bool:
        return len(self._messages) - self._greeting > self._limit

    def end_with(self, message: ServerMessage) -> None:
        """Add the last message, even to a full queue, and close."""
        if not self.closed:
            self._messages.append(message)
        self.close()

    def close(self) -> None:
        """Accept no more messages; `get` returns the remaining ones and then ``None``."""
        self.closed = True
        self._filled.set()

    async def get(self) -> ServerMessage | None:
        """Wait for the next message; return ``None`` after the last."""
        while not self._messages:
            if self.closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        self._greeting = max(0, self._greeting - 1)
        return self._messages.popleft()


def _gives_way(message: ServerMessage) -> bool:
    return isinstance(message, Ack) or (isinstance(message, Caption) and not message.final)
