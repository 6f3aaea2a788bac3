"""A server that follows a script, for one connection after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import msgspec
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from af3stream.protocol.codec import SUBPROTOCOLS, Codec, server_codec
from af3stream.protocol.features import FEATURES
from af3stream.protocol.messages import (
    Ack,
    Answer,
    AnswerDelta,
    Ask,
    Audio,
    Caption,
    ClientMessage,
    End,
    Ended,
    Flush,
    Flushed,
    Gap,
    Ready,
    ServerMessage,
    Start,
)

READY = Ready(
    session="s1",
    server="scripted 1",
    model="none",
    captioner="none",
    format="pcm_s16le",
    rate=16_000,
    channels=1,
    mode="speech",
    window_s=30,
    horizon_windows=20,
    credit_s=120,
    max_frame_bytes=1 << 20,
    max_question_chars=2_000,
    max_questions=4,
    features=FEATURES,
    max_instructions_chars=100,
)


@dataclass
class Peer:
    """The server's end of one connection. ``heard`` is everything that arrived, in order."""

    socket: ServerConnection
    codec: Codec[ClientMessage]
    progress: asyncio.Condition
    heard: list[ClientMessage] = field(default_factory=list)

    async def receive(self) -> ClientMessage:
        message = self.codec.decode(await self.socket.recv())
        async with self.progress:
            self.heard.append(message)
            self.progress.notify_all()
        return message

    async def send(self, *messages: ServerMessage) -> None:
        for message in messages:
            await self.socket.send(self.codec.encode(message))

    async def open(self, **changes: object) -> Start:
        """Take ``start`` and answer ``ready``, with the client's format and these changes."""
        start = await self.receive()
        assert isinstance(start, Start)
        agreed = {"format": start.format, "rate": start.rate, "channels": start.channels}
        await self.send(msgspec.structs.replace(READY, **agreed | changes))
        return start


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Scripted:
    """A running server: its address, and its connections so far."""

    port: int = 0
    peers: list[Peer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def heard(self) -> list[ClientMessage]:
        """What the first connection sent."""
        return self.peers[0].heard

    async def has_heard(self, count: int) -> None:
        """Wait until so many messages have arrived."""
        async with self.progress:
            await self.progress.wait_for(lambda: self.peers and len(self.heard) >= count)


@asynccontextmanager
async def serving(
    script: Script, *, refuse: Callable[[ServerConnection, Request], Response | None] | None = None, port: int = 0
) -> AsyncIterator[Scripted]:
    """Run the script for every connection; a failed assertion in it fails the test. Leaving the block closes with 1001.

    With the ``port`` of a server that has stopped, it is back.
    """
    failures: list[Exception] = []

    async def follow(socket: ServerConnection) -> None:
        peer = Peer(socket, server_codec(socket.subprotocol or ""), running.progress)
        running.peers.append(peer)
        try:
            with suppress(ConnectionClosed):
                await script(peer)
        except Exception as failure:  # noqa: BLE001 - told to the test below
            failures.append(failure)

    def look(socket: ServerConnection, request: Request) -> Response | None:
        running.requests.append(request)
        return refuse(socket, request) if refuse else None

    running = Scripted()
    async with serve(follow, "127.0.0.1", port, subprotocols=SUBPROTOCOLS, process_request=look) as server:
        running.port = server.sockets[0].getsockname()[1]
        yield running
    if failures:
        raise failures[0]


def final(text: str, start: float, end: float, utterance: int = 0) -> Caption:
    return Caption(utterance, text, start, end, final=True)


def interim(text: str, start: float = 0.0, end: float = 1.0, utterance: int = 0) -> Caption:
    return Caption(utterance, text, start, end, final=False)


async def polite(peer: Peer) -> None:
    """Processes audio at once, answers every question with itself, and ends when asked to."""
    await peer.open()
    await converse(peer)


async def converse(peer: Peer) -> None:
    """What a polite server does once the session is open."""
    received = 0
    while True:
        match message := await peer.receive():
            case Audio():
                size = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1}
                start = peer.heard[0]
                assert isinstance(start, Start)
                received = message.offset + len(message.pcm) // (size[start.format] * start.channels)
                await peer.send(Ack(received, received))
            case Gap():
                received = message.offset + message.frames
                await peer.send(Ack(received, received))
            case Ask():
                await peer.send(*(AnswerDelta(message.id, word + " ") for word in message.text.split()))
                await peer.send(answer(message.id, message.text))
            case Flush():
                await peer.send(Flushed(message.id, received))
            case End():
                await peer.send(final("Call me Ishmael.", 0.5, 1.5), ended(message.total))
                return


def answer(question_id: str, text: str) -> Answer:
    return Answer(question_id, text, start=0, end=2, windows=1, tokens=3, finish="stop")


def ended(total: int) -> Ended:
    seconds = total / 16_000
    return Ended(total, seconds, seconds, 0, 0, seconds, windows=1, utterances=1)
