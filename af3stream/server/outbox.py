"""What waits to be sent to one peer: bounded; interim captions give way first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from af3stream.errors import SlowConsumer
from af3stream.protocol.messages import Ack, Caption, ServerMessage


class DropInterimsOutbox:
    """A queue of at most ``limit`` messages after a greeting; once it is closed, nothing is added.

    Where it is full, interim captions and acknowledgements that a later one replaces are dropped; where that does not
    help, the peer is too slow.

    Attributes:
        closed: whether nothing is added any more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[ServerMessage] = deque()
        self._greeting = 0  # messages at the front that do not count
        self._filled = asyncio.Event()
        self.closed = False

    def greet(self, messages: Iterable[ServerMessage]) -> None:
        """Add what comes first; it is as long as what the peer missed, and does not count against the limit."""
        if self.closed:
            return
        self._messages.extend(messages)
        self._greeting = len(self._messages)
        self._filled.set()

    def put(self, messages: Iterable[ServerMessage]) -> None:
        """Add messages.

        Raises:
            SlowConsumer: where they do not fit; all that waits is given up then.
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
        """Add the last message, whatever waits, and close."""
        if not self.closed:
            self._messages.append(message)
        self.close()

    def close(self) -> None:
        """Nothing follows; `get` gives what is left and then ends."""
        self.closed = True
        self._filled.set()

    async def get(self) -> ServerMessage | None:
        """The next message, ``None`` after the last."""
        while not self._messages:
            if self.closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        self._greeting = max(0, self._greeting - 1)
        return self._messages.popleft()


def _gives_way(message: ServerMessage) -> bool:
    return isinstance(message, Ack) or (isinstance(message, Caption) and not message.final)
