"""A service on a thread of its own that sends what a test tells it to."""

from __future__ import annotations

import asyncio
import threading
from typing import Self

from af3stream.protocol.messages import Ack, Audio, ClientMessage, End, Flush, Flushed, Gap, ServerMessage
from tests.client.scripted_server import Peer, ended, serving

RATE = 16_000


class ScriptedService:
    """Acknowledges audio and flushes as a service does; a test sends everything else with :meth:`say`.

    Attributes:
        ready: fields of the first ``Ready``.
        silent: whether it receives audio without acknowledging it.
    """

    def __init__(self) -> None:
        self.ready: dict[str, object] = {}
        self.silent = False
        self._running = threading.Event()
        self._peers: list[Peer] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._running.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """URL of the service."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        """Number of connections so far."""
        return len(self._peers)

    def heard(self, kind: type[ClientMessage]) -> list[ClientMessage]:
        """Return the received messages of one type, of all connections."""
        return [message for peer in self._peers for message in peer.heard if isinstance(message, kind)]

    def say(self, *messages: ServerMessage) -> None:
        """Send messages over the newest connection."""
        asyncio.run_coroutine_threadsafe(self._peers[-1].send(*messages), self._loop).result(10)

    def cut(self) -> None:
        """Abort the newest connection."""
        self._loop.call_soon_threadsafe(self._peers[-1].socket.transport.abort)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._converse) as server:
            self._port = server.port
            self._running.set()
            await self._over.wait()

    async def _converse(self, peer: Peer) -> None:
        received = self._received
        start = await peer.open(**self.ready, received=received, processed=received)
        self._peers.append(peer)
        size = 2 * start.channels
        while True:
            match message := await peer.receive():
                case Audio() | Gap():
                    frames = len(message.pcm) // size if isinstance(message, Audio) else message.frames
                    self._received = message.offset + frames
                    if not self.silent:
                        await peer.send(Ack(self._received, 0))
                case Flush():
                    await peer.send(Flushed(message.id, self._received))
                case End():
                    await peer.send(ended(message.total))

    _received = 0
