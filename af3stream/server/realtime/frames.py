"""Reads frames, and checks that the client is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError

from af3stream.config import ServerConfig
from af3stream.errors import IdleTimeout


class Frames:
    """The frames of one client.

    A client that sends faster than the engine works is not read for a while, and its answer to a ping stands behind its
    audio. So the library's own pings are stopped, and a client is pinged only if nothing comes from it.
    """

    def __init__(self, socket: ServerConnection, config: ServerConfig) -> None:
        self._socket = socket
        self._config = config
        self._clock = asyncio.get_running_loop().time
        if socket.keepalive_task:
            socket.keepalive_task.cancel()

    async def next(self, waits: Callable[[], bool]) -> str | bytes:
        """Return the next frame.

        Args:
            waits: whether the client waits for the service, and so need not say anything.

        Raises:
            IdleTimeout: if no frame arrives for `server.idle_timeout_s`.
            ConnectionClosed: if the connection is closed.
        """
        receiving = asyncio.ensure_future(self._socket.recv())
        try:
            idle_at = self._clock() + self._config.idle_timeout_s
            while True:
                timeout_s = max(0.0, min(self._config.ping_interval_s, idle_at - self._clock()))
                await asyncio.wait([receiving], timeout=timeout_s)
                if receiving.done():
                    return receiving.result()
                if self._clock() >= idle_at:
                    if not waits():
                        raise IdleTimeout(f"nothing arrived for {self._config.idle_timeout_s:g} s")
                    idle_at = self._clock() + self._config.idle_timeout_s
                await self._ping(receiving)
        finally:
            if not receiving.done():
                receiving.cancel()
                await asyncio.wait([receiving])  # one frame is received at a time

    async def _ping(self, receiving: asyncio.Future[str | bytes]) -> None:
        """Ping the client, and close if neither a pong nor a frame arrives."""
        answered: asyncio.Future[Any] = asyncio.ensure_future(await self._socket.ping())
        either: list[asyncio.Future[Any]] = [receiving, answered]
        limit_s = self._config.ping_timeout_s
        done, _ = await asyncio.wait(either, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            self._socket.transport.abort()
            raise ConnectionClosedError(None, None)


def asked_for(socket: ServerConnection) -> dict[str, str]:
    """Return what a handshake asks for, in its query or in headers, by name."""
    assert socket.request
    asked = {
        name: values[-1]
        for name, values in parse_qs(urlsplit(socket.request.path).query, keep_blank_values=True).items()
    }
    for name, header in (("resume", "X-Af3stream-Resume"), ("last_event", "X-Af3stream-Last-Event")):
        if (value := socket.request.headers.get(header)) is not None:
            asked[name] = value
    return asked
