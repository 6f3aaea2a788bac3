"""Bytes on a WebSocket as no library would send them."""

from __future__ import annotations

import asyncio
import struct

from af3stream.protocol.codec import JSON
from af3stream.server.http import STREAM_PATH
from af3stream.server.service import Service

PATIENCE_S = 60.0  # a loaded machine
BINARY, TEXT, CLOSE, FIN, RSV1, RSV2 = 0x2, 0x1, 0x8, 0x80, 0x40, 0x20


def frame(first: int, payload: bytes, *, masked: bool = True, claimed: int | None = None) -> bytes:
    """A frame with this first byte; the mask is zero. ``claimed``: another length than the payload has."""
    size, mask = len(payload) if claimed is None else claimed, 0x80 * masked
    head = struct.pack("!BB", first, mask | size) if size < 126 else struct.pack("!BBQ", first, mask | 127, size)
    return head + bytes(4 * masked) + payload


class Wire:
    """A connection whose handshake is done."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, service: Service, subprotocol: str = JSON) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(
            f"GET {STREAM_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n".encode()
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        return cls(reader, writer)

    async def next_frame(self) -> tuple[int, bytes]:
        """Opcode and payload; pings are left unanswered."""
        async with asyncio.timeout(PATIENCE_S):
            first, size = await self._reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self._reader.readexactly(2))
            return first & 0x0F, await self._reader.readexactly(size)

    async def close_code(self) -> int:
        """Read all that is left; the code that the server closes with."""
        while True:
            opcode, payload = await self.next_frame()
            if opcode == CLOSE:
                self.writer.close()
                return int.from_bytes(payload[:2])
