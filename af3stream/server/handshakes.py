"""Connections that have not sent a complete request yet: how many there may be, and how TLS begins on them."""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol


class Pending(Protocol):
    """A connection that can be cut off."""

    def abort(self) -> None:
        """Close the socket at once."""


class HandshakeLimiter:
    """Bound the connections that have not sent a complete request yet; with one more, the oldest is cut off.

    A flood of silent connections so never keeps out a client that sends its request at once.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pending: dict[Pending, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._pending)

    def enter(self, connection: Pending) -> None:
        """Count a connection that was just accepted."""
        self._pending[connection] = None
        if len(self._pending) > self._most:
            self._cut_off(next(iter(self._pending)))

    def leave(self, connection: Pending) -> None:
        """Count a connection no longer: its request is complete, or it is closed."""
        self._pending.pop(connection, None)

    def close(self) -> None:
        """Cut off every pending connection."""
        for connection in list(self._pending):
            self._cut_off(connection)

    def _cut_off(self, connection: Pending) -> None:
        self.leave(connection)
        connection.abort()


class EarlyBytes(asyncio.Protocol):
    """Keep what a peer sends between the end of its TLS handshake and the first reader.

    Attributes:
        received: the bytes, in order.
    """

    def __init__(self) -> None:
        self.received = bytearray()

    def data_received(self, data: bytes) -> None:
        """Keep them."""
        self.received += data


async def secure(
    transport: asyncio.Transport, context: ssl.SSLContext, timeout_s: float
) -> tuple[asyncio.Transport, bytes] | None:
    """Run the TLS handshake of an accepted connection.

    Returns:
        The secured transport and what has already arrived on it; ``None`` if the handshake failed, which closes the
        connection.
    """
    if transport.is_closing():
        return None
    early = EarlyBytes()
    try:
        secured = await asyncio.get_running_loop().start_tls(
            transport, early, context, server_side=True, ssl_handshake_timeout=timeout_s
        )
    except OSError:  # ssl.SSLError and time-outs are among them; start_tls has closed the transport
        return None
    return None if secured is None or secured.is_closing() else (secured, bytes(early.received))
