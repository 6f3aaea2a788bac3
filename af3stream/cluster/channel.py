"""One end of a link: a WebSocket, its outgoing queue, and credit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from af3stream.cluster.coalescing import Outgoing, QueueFull
from af3stream.cluster.wire import BadFrame, Credit, Frames, FromEngine, FromGateway, encode, frame
from af3stream.config import EngineConfig

Received = TypeVar("Received")

wire_log = logging.getLogger(f"{__name__}.wire")
wire_log.setLevel(logging.INFO)  # at DEBUG, websockets logs frames: texts and audio

MIB: Final = 1 << 20
GRANT_PART: Final = 4  # credit is granted at once when so large a part of it is used,
GRANT_AFTER_S: Final = 0.1  # and otherwise so long after a frame


class Channel(Generic[Received]):
    """Sends messages in order, and hands over those of the other end, until the connection is closed.

    Its methods are called on one event loop.

    Attributes:
        on_emptied: called each time all that waited is sent.

    Args:
        frames: decodes what the other end sends.
        credit: bytes that the other end lets be on their way.
    """

    def __init__(self, socket: Connection, frames: Frames[Received], credit: int, config: EngineConfig) -> None:
        self._socket = socket
        self._frames = frames
        self._own_credit = config.credit_mb * MIB
        self._outgoing = Outgoing(config.coalesce_ms / 1_000, credit, config.queue_mb * MIB)
        self._processed = 0  # bytes that are not granted yet
        self._grant_at: float | None = None
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._idle = asyncio.Event()  # set while nothing waits
        self._idle.set()
        self.on_emptied: Callable[[], None] = _nothing

    @property
    def fullness(self) -> float:
        """How full the queue is: 0 is empty, 1 is full."""
        return self._outgoing.fullness

    def put(self, message: FromGateway | FromEngine, *, urgent: bool = False) -> None:
        """Queue a message. If the other end is too far behind, the connection is closed instead."""
        if self._closed:
            return
        try:
            self._outgoing.put(encode(message), self._loop.time(), urgent=urgent)
        except QueueFull:
            self.abort()
        self._idle.clear()
        self._changed.set()

    async def run(self, receive: Callable[[Received], None]) -> str:
        """Send and receive until the connection is closed.

        Args:
            receive: called with each message; a `ValueError` of it closes the connection.

        Returns:
            Why the connection was closed.
        """
        sending = asyncio.create_task(self._send())
        try:
            async for data in self._socket:
                self._take(self._frames.decode(data), len(data), receive)
        except ConnectionClosed as closed:
            return str(closed)
        except ValueError as error:
            await self._socket.close(CloseCode.PROTOCOL_ERROR)
            return str(error)
        finally:
            self._closed = True
            self._idle.set()
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
        return "it was closed"

    def abort(self) -> None:
        """Close the connection at once: what waits is not sent."""
        self._closed = True
        self._socket.transport.abort()

    async def flush(self) -> None:
        """Return when everything is sent, or the connection is closed."""
        await self._idle.wait()

    def _take(self, messages: Sequence[Received], size: int, receive: Callable[[Received], None]) -> None:
        match messages:
            case [Credit(bytes=granted)]:
                self._outgoing.grant(granted)
                self._changed.set()
                return
        for message in messages:
            receive(message)
        self._processed += size
        if self._processed * GRANT_PART > self._own_credit:
            self._grant_at = self._loop.time()
            self._changed.set()
        elif self._grant_at is None:
            self._grant_at = self._loop.time() + GRANT_AFTER_S
            self._changed.set()

    async def _send(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                self._changed.clear()
                if self._grant_at is not None and self._grant_at <= self._loop.time():
                    credit, self._processed, self._grant_at = self._processed, 0, None
                    await self._socket.send(frame([encode(Credit(credit))]))
                if self._outgoing.due is not None and self._outgoing.due <= self._loop.time():
                    data = frame(self._outgoing.take())
                    self._outgoing.sent(len(data))
                    await self._socket.send(data)
                    if not self._outgoing.waiting_bytes:
                        self._idle.set()
                        self._loop.call_soon(self.on_emptied)
                    continue
                due = min((at for at in (self._outgoing.due, self._grant_at) if at is not None), default=None)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._changed.wait()


def _nothing() -> None:
    """Do nothing."""


def keepalive(config: EngineConfig) -> dict[str, Any]:
    """Return websockets' options with which a connection is closed ``lost_after_s`` after the other end is gone.

    The time is that to the next ping, that to its answer, and that for the end of the connection.
    """
    part_s = config.lost_after_s / 3
    return {"ping_interval": part_s, "ping_timeout": part_s, "close_timeout": part_s}


def checked(condition: bool, reason: str) -> None:
    """Refuse a message of the other end.

    Raises:
        BadFrame: if the condition does not hold.
    """
    if not condition:
        raise BadFrame(reason)
