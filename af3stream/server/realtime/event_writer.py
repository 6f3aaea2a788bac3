"""Queue of events for one client."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from af3stream.errors import Refusal, SlowConsumer
from af3stream.server.openai_errors import ApiError, api_error
from af3stream.server.realtime.conversation import new_id

NORMAL_CLOSE: Final = 1000
GOODBYE_S: Final = 10.0  # how long a client that has to go may take to read why


class EventWriter:
    """Writes events to a socket. With more than ``limit`` events in the queue, the connection closes.

    Attributes:
        closed: whether nothing is added any more.
    """

    def __init__(self, socket: ServerConnection, limit: int) -> None:
        self.closed = False
        self._socket = socket
        self._limit = limit
        self._events: deque[str] = deque()
        self._filled = asyncio.Event()
        self._code = NORMAL_CLOSE
        self._goodbye: asyncio.TimerHandle | None = None

    def emit(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        if self.closed:
            return
        if len(self._events) >= self._limit:
            self._events.clear()
            self.end_with(SlowConsumer(f"{self._limit} events wait to be read"))
            return
        self._put(kind, fields)

    def refuse(self, error: ApiError, event_id: str | None = None) -> None:
        """Send an error.

        Args:
            event_id: the client's name for the event that caused it.
        """
        self.emit("error", error={**error.fields, "event_id": event_id})

    def end_with(self, error: Refusal | ApiError) -> None:
        """Send an error as the last event, and close."""
        if not self.closed:
            self._put("error", {"error": {**api_error(error).fields, "event_id": None}})
        self.close((error.close_code if isinstance(error, Refusal) else None) or NORMAL_CLOSE)

    def close(self, code: int) -> None:
        """Close the socket when all events are sent, or after a time limit."""
        if not self.closed:
            self.closed, self._code = True, code
            self._filled.set()
            self._goodbye = asyncio.get_running_loop().call_later(GOODBYE_S, self._socket.transport.abort)

    def gone(self) -> None:
        """Cancel the time limit, because the socket is closed."""
        if self._goodbye:
            self._goodbye.cancel()

    async def run(self) -> None:
        """Write frames until the last."""
        try:
            while self._events or not self.closed:
                if self._events:
                    await self._socket.send(self._events.popleft())
                else:
                    self._filled.clear()
                    await self._filled.wait()
            await self._socket.close(self._code)
        except ConnectionClosed:
            pass

    def _put(self, kind: str, fields: dict[str, Any]) -> None:
        event = {"type": kind, "event_id": new_id("event"), **fields}
        self._events.append(msgspec.json.encode(event).decode())
        self._filled.set()
