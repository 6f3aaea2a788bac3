"""Limit the connections without a complete request, and run the TLS handshake on them."""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol


class Pending(Protocol):
    """A connection that can be aborted."""

    def abort(self) -> None:
        """Close the socket at once."""


class HandshakeLimiter:
    """Limit the connections without a complete request. Beyond the limit, the oldest one is closed.

    So a flood of silent connections does not keep out a client that sends its request at once.

    Args:
        most: the limit.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pending: dict[Pending, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._pending)

    def enter(self, connection: Pending) -> None:
        """Count a connection that was accepted."""
        self._pending[connection] = None
        if len(self._pending) > self._most:
            self._cut_off(next(iter(self._pending)))

    def leave(self, connection: Pending) -> None:
        """Stop counting a connection: its request is complete, or it is closed."""
        self._pending.pop(connection, None)

    def close(self) -> None:
        """Close all counted connections."""
        for connection in list(self._pending):
            self._cut_off(connection)

    def _cut_off(self, connection: Pending) -> None:
        self.leave(connection)
        connection.abort()


class EarlyBytes(asyncio.Protocol):
    """Keep the bytes that a peer sends between its TLS handshake and the first reader.

    Attributes:
        received: the bytes, in order.
    """

    def __init__(self) -> None:
        self.received = bytearray()

    def data_received(self, data: bytes) -> None:
        """Keep the bytes."""
        self.received += data


async def secure(
    transport: asyncio.Transport, context: ssl.SSLContext, timeout_s: float
) -> tuple[asyncio.Transport, bytes] | None:
    """Run the TLS handshake of an accepted connection.

    Returns:
        The secured transport and the bytes already received on it; ``None`` if the handshake failed, which closes the
        connection.
    """
    if transport.is_closing():
        return None
    early = EarlyBytes()
    try:
        secured = await asyncio.get_running_loop().start_tls(
            transport, early, context, server_side=True, ssl_handshake_timeout=timeout_s
        )
    except OSError:  # also ssl.SSLError and time-outs; start_tls has closed the transport
        return None
    return None if secured is None or secured.is_closing() else (secured, bytes(early.received))
