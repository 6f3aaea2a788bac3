"""Connections whose handshake is not done."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection


class OldestCutOffDoorway:
    """At most so many unfinished handshakes; with one more, the oldest is cut off, so that who comes in at once can."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._unfinished: dict[ServerConnection, None] = {}

    def connections(self) -> type[ServerConnection]:
        """What a server makes of whoever connects."""
        doorway = self

        class Knocking(ServerConnection):
            """A connection that stands in the doorway from its first byte on."""

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                """Step into the doorway."""
                super().connection_made(transport)
                doorway.enter(self)

            def connection_lost(self, exc: Exception | None) -> None:
                """Be gone."""
                doorway.leave(self)
                super().connection_lost(exc)

        return Knocking

    def enter(self, connection: ServerConnection) -> None:
        """Somebody connects."""
        self._unfinished[connection] = None
        if len(self._unfinished) > self._most:
            oldest = next(iter(self._unfinished))
            self.leave(oldest)
            oldest.transport.abort()

    def leave(self, connection: ServerConnection) -> None:
        """A request is there, or nobody any more."""
        self._unfinished.pop(connection, None)
