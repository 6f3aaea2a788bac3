"""A service on a socket, and a peer that speaks the protocol by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from af3stream.config import (
    AudioConfig,
    Config,
    JournalConfig,
    ModelConfig,
    QuestionsConfig,
    ServerConfig,
    UploadsConfig,
)
from af3stream.engine.contract import Engine
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine
from af3stream.protocol import messages as m
from af3stream.protocol.codec import MSGPACK, Codec, client_codec
from af3stream.server.http import STREAM_PATH
from af3stream.server.service import Service
from af3stream.tracing import Tracing

M = TypeVar("M", bound=m.Message)
PATIENCE_S = 60.0  # a loaded machine


@asynccontextmanager
async def serving(
    engine: Engine | None = None,
    *,
    audio: AudioConfig | None = None,
    questions: Any = None,
    model: ModelConfig | None = None,
    journal: Path | JournalConfig | None = None,
    uploads: UploadsConfig | None = None,
    tracing: Tracing | None = None,
    **server: Any,
) -> AsyncIterator[Service]:
    """A service over the scripted engine, on any free port; keeps sessions where it is given a folder."""
    config = Config(
        ServerConfig(**{"port": 0, **server}),
        audio or AudioConfig(),
        questions=questions or QuestionsConfig(),
        model=model or ModelConfig(),
        journal=journal if isinstance(journal, JournalConfig) else JournalConfig(folder=str(journal or "")),
        uploads=uploads or UploadsConfig(),
    )
    async with Service(config, Loaded(engine or ScriptedEngine(), "off", None), tracing).listening() as service:
        yield service


@dataclass
class Peer:
    """A client's end of a connection. ``said`` is everything that arrived so far."""

    socket: ClientConnection
    codec: Codec[m.ServerMessage]
    said: list[m.ServerMessage]

    async def tell(self, *messages: m.ClientMessage) -> None:
        for message in messages:
            await self.socket.send(self.codec.encode(message))

    async def hear(self) -> m.ServerMessage:
        """The next message."""
        message = self.codec.decode(await asyncio.wait_for(self.socket.recv(), PATIENCE_S))
        self.said.append(message)
        return message

    async def until(self, kind: type[M]) -> M:
        """Read on until a message of this kind comes."""
        while not isinstance(message := await self.hear(), kind):
            pass
        return message

    async def until_closed(self) -> int:
        """Read all that is left; returns the code that the server closed with."""
        try:
            while True:
                await self.hear()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "the connection was cut"
            return closed.rcvd.code

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.said if isinstance(message, kind)]

    @property
    def finals(self) -> list[m.Caption]:
        return [caption for caption in self.of(m.Caption) if caption.final]


@asynccontextmanager
async def connected(service: Service, subprotocol: str = MSGPACK, **options: Any) -> AsyncIterator[Peer]:
    """A connection whose session is not open yet."""
    async with connect(stream_url(service), subprotocols=[Subprotocol(subprotocol)], compression=None, **options) as ws:
        yield Peer(ws, client_codec(subprotocol), [])


@asynccontextmanager
async def talking(
    service: Service, start: m.Start | None = None, subprotocol: str = MSGPACK, **options: Any
) -> AsyncIterator[Peer]:
    """A connection with an open session."""
    async with connected(service, subprotocol, **options) as peer:
        await peer.tell(start or m.Start())
        await peer.until(m.Ready)
        yield peer


async def still_there(peer: Peer) -> None:
    """The session is open, and answers."""
    await peer.tell(m.Flush("still-there"))
    await peer.until(m.Flushed)


async def settled(service: Service) -> None:
    """Wait until no connection is left."""
    async with asyncio.timeout(PATIENCE_S):
        while service.sessions:  # noqa: ASYNC110 - the service has no reason to tell
            await asyncio.sleep(0.01)


def stream_url(service: Service) -> str:
    return f"ws://127.0.0.1:{service.port}{STREAM_PATH}"


async def get(
    service: Service, target: str, headers: str = "", host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """A plain request, with the target spelled exactly so; returns status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    name = f"127.0.0.1:{service.port}" if host is None else host
    closing = "" if "Connection:" in headers else "Connection: close\r\n"
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {name}\r\n{closing}{headers}\r\n".encode("latin-1"))
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    fields = (line.split(": ", 1) for line in rest)
    return int(first.split()[1]), {field.title(): value for field, value in fields}, body
