"""Connections whose handshakes are not done: that of TLS, where there is one, and the request after it."""

from __future__ import annotations

import asyncio
import ssl

from websockets.asyncio.server import ServerConnection


class OldestCutOffDoorway:
    """At most so many unfinished handshakes; with one more, the oldest is cut off, so that who comes in at once can.

    Args:
        most: how many.
        context: for TLS, which begins here so that who never finishes it is counted; ``None``: plain connections.
        timeout_s: of a TLS handshake.
    """

    def __init__(self, most: int, context: ssl.SSLContext | None, timeout_s: float) -> None:
        self._most = most
        self._context = context
        self._timeout_s = timeout_s
        self._unfinished: dict[ServerConnection, asyncio.BaseTransport] = {}
        self._securing: set[asyncio.Task[None]] = set()

    def connections(self) -> type[ServerConnection]:
        """What a server makes of whoever connects."""
        doorway = self

        class Knocking(ServerConnection):
            """A connection that stands in the doorway from its first byte on."""

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                """Step into the doorway."""
                doorway._enter(self, transport)
                if doorway._context is None:
                    super().connection_made(transport)
                    return
                assert isinstance(transport, asyncio.Transport)
                transport.pause_reading()  # nothing is for this protocol before TLS stands between
                securing = asyncio.create_task(self._secure(transport, doorway._context))
                doorway._securing.add(securing)
                securing.add_done_callback(doorway._securing.discard)

            async def _secure(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
                """Go on under TLS; who cannot is gone."""
                loop = asyncio.get_running_loop()
                try:
                    secured = await loop.start_tls(
                        transport, self, context, server_side=True, ssl_handshake_timeout=doorway._timeout_s
                    )
                except OSError:  # ssl.SSLError and time-outs are among them; start_tls has closed the transport
                    secured = None
                if secured is None or secured.is_closing():
                    doorway.leave(self)
                    return
                if self in doorway._unfinished:
                    doorway._unfinished[self] = secured
                super().connection_made(secured)

            def connection_lost(self, exc: Exception | None) -> None:
                """Be gone."""
                doorway.leave(self)
                super().connection_lost(exc)

        return Knocking

    def leave(self, connection: ServerConnection) -> None:
        """A request is there, or nobody any more."""
        self._unfinished.pop(connection, None)

    def _enter(self, connection: ServerConnection, transport: asyncio.BaseTransport) -> None:
        """Somebody connects."""
        self._unfinished[connection] = transport
        if len(self._unfinished) > self._most:
            oldest = next(iter(self._unfinished))
            cut_off = self._unfinished.pop(oldest)
            assert isinstance(cut_off, asyncio.Transport)
            cut_off.abort()
