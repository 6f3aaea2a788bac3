"""A way to the server that is cut, stalls, and splits what it carries anywhere; it reorders nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal

Way = Literal["up", "down"]  # from the client to the server, and back

READ_BYTES: Final = 1 << 16
SPLIT_BYTES: Final = 4_000  # how long a split lasts: bytes that go one by one take their time


@dataclass
class Faults:
    """What happens to the bytes that go one way.

    Attributes:
        fuse: every connection is cut after so many more bytes; ``None``: not.
        split: the most bytes that go at once.
        splitting: for how many more bytes that holds.
        open: unset while the way is stalled.
    """

    fuse: int | None = None
    split: int = 1
    splitting: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def next_size(self, size: int) -> int:
        """How many of ``size`` bytes go next."""
        if self.splitting > 0:
            size = min(size, self.split)
            self.splitting -= size
        if self.fuse is not None:
            size = min(size, self.fuse)
            self.fuse -= size
        return size


class Proxy:
    """Carries connections to wherever the server is, under the faults of the two ways.

    Attributes:
        port: where the client finds it.
    """

    def __init__(self, server: Callable[[], int | None]) -> None:
        self.port = 0
        self.ways: dict[Way, Faults] = {"up": Faults(), "down": Faults()}
        self._server = server
        self._closed = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._stalls: set[asyncio.Task[None]] = set()
        self._links: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        """Carry connections while the context lasts."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self._closed = True
            self.calm()
            self.cut()
            await asyncio.gather(*self._links)
            await server.wait_closed()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def cut_after(self, way: Way, size: int) -> None:
        """Reset every connection when so many more bytes have gone one way."""
        self.ways[way].fuse = size

    def split(self, way: Way, size: int) -> None:
        """Let at most ``size`` bytes go at once, for a while."""
        self.ways[way].split, self.ways[way].splitting = size, SPLIT_BYTES

    def stall(self, way: Way, seconds: float) -> None:
        """Let nothing go one way for some time."""
        task = asyncio.create_task(self._stall(self.ways[way], seconds))
        self._stalls.add(task)
        task.add_done_callback(self._stalls.discard)

    def calm(self) -> None:
        """No more faults."""
        for stall in self._stalls:
            stall.cancel()
        for faults in self.ways.values():
            faults.fuse, faults.splitting = None, 0
            faults.open.set()

    async def _stall(self, faults: Faults, seconds: float) -> None:
        faults.open.clear()
        await asyncio.sleep(seconds)
        faults.open.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._carry(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, up to its end either way."""
        port = self._server()
        try:
            if port is None:
                raise ConnectionRefusedError
            theirs, other = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, other}
        if self._closed:
            self.cut()
        pumps = [
            asyncio.create_task(self._pump(reader, other, self.ways["up"])),
            asyncio.create_task(self._pump(theirs, writer, self.ways["down"])),
        ]
        await asyncio.wait(pumps)
        self._writers -= {writer, other}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: Faults) -> None:
        """Bytes one way, up to their end."""
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                at = 0
                while at < len(data):
                    await faults.open.wait()
                    size = faults.next_size(len(data) - at)
                    writer.write(data[at : at + size])
                    await writer.drain()
                    await asyncio.sleep(0)  # what is written apart is sent apart
                    at += size
                    if faults.fuse == 0:
                        faults.fuse = None
                        self.cut()
                        return
        writer.close()
