"""From an address to an open session; whatever stands in the way is one sentence."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol

from af3stream.client.errors import ServerError, SessionEnded
from af3stream.client.session import Session, why_closed
from af3stream.errors import BadMessage, SourceError
from af3stream.protocol.codec import MSGPACK, Codec, client_codec
from af3stream.protocol.messages import Error, Format, Mode, Ready, ServerMessage, Start

PATH: Final = "/v1/stream"
SCHEMES: Final = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
MAX_MESSAGE_BYTES: Final = 1 << 20
STATUSES: Final = {
    401: "wants a valid token",
    403: "does not admit this client",
    404: "has no such service",
    429: "has too many sessions of this client",
    503: "has no room for another session",
}


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str | None = None,
    format: Format = "pcm_s16le",
    rate: int = 16_000,
    channels: int = 1,
    mode: Mode | None = None,
    interims: bool = True,
    subprotocol: str = MSGPACK,
) -> AsyncIterator[Session]:
    """Open a session: ``async with connect("ws://127.0.0.1:8765") as session``. Leaving the block closes it.

    Args:
        url: ``ws``, ``wss``, ``http`` or ``https``; without a path it gets ``/v1/stream``.
        token: sent as ``Authorization: Bearer``.
        format: how samples are spelled in what :meth:`Session.send` is given.
        rate: Hz.
        channels: interleaved.
        mode: whether non-speech is left out; ``None`` for the server's own choice.
        interims: whether captions of open utterances are wanted.
        subprotocol: one of :data:`af3stream.protocol.codec.SUBPROTOCOLS`.

    Raises:
        SourceError: for an address that is malformed, cannot be reached, or refuses the connection.
        ServerError: when the server refuses the session, as for a rate it does not take.
    """
    address = stream_url(url)
    codec = client_codec(subprotocol)
    socket = await _open(address, token, subprotocol)
    try:
        ready = await _start(socket, codec, Start(format, rate, channels, mode, interims), _without_secrets(address))
        session = Session(socket, codec, ready)
        reader = asyncio.create_task(session.read_socket())
        try:
            yield session
        finally:
            await session.close(SessionEnded("the session was left"))
            await socket.close()
            await reader
    finally:
        await socket.close()


def stream_url(url: str) -> str:
    """The WebSocket address that ``url`` stands for.

    Raises:
        SourceError: for anything but ``http(s)://host`` or ``ws(s)://host``, with or without port and path.
    """
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        valid = None
    if not valid:
        raise SourceError(f"{url!r} is not an address of the form ws://host:port")
    path = PATH if parts.path in ("", "/") else parts.path
    return urlunsplit((SCHEMES[parts.scheme], parts.netloc, path, parts.query, ""))


async def _open(address: str, token: str | None, subprotocol: str) -> ClientConnection:
    shown = _without_secrets(address)
    try:
        socket = await open_socket(
            address,
            subprotocols=[Subprotocol(subprotocol)],
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            proxy=None if urlsplit(address).hostname in LOOPBACK else True,
        )
    except InvalidStatus as error:
        raise SourceError(f"{shown} {_refusal(error.response)}") from None
    except TimeoutError:
        raise SourceError(f"cannot reach {shown}: no answer within {OPEN_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise SourceError(f"cannot reach {shown}: {_reason(error)}") from None
    except WebSocketException as error:
        raise SourceError(f"{shown} does not answer as this service does: {error}") from None
    if socket.subprotocol != subprotocol:
        await socket.close()
        raise SourceError(f"{shown} does not speak {subprotocol}")
    return socket


async def _start(socket: ClientConnection, codec: Codec[ServerMessage], start: Start, shown: str) -> Ready:
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            with suppress(ConnectionClosed):  # what the server said before it closed comes first
                await socket.send(codec.encode(start))
            message = codec.decode(await socket.recv())
    except TimeoutError:
        raise SourceError(f"{shown} took the connection and then said nothing for {OPEN_TIMEOUT_S:.0f} s") from None
    except ConnectionClosed as closed:
        raise SourceError(f"{shown} does not open a session: {why_closed(closed)}") from None
    except BadMessage as error:
        raise SourceError(f"{shown} does not answer as this service does: {error}") from None
    if isinstance(message, Error):
        raise ServerError(message)
    if not isinstance(message, Ready):
        raise SourceError(f"{shown} does not answer as this service does: it began with {type(message).__name__}")
    return message


def _without_secrets(address: str) -> str:
    """The address without what may hold a password or a token."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _refusal(response: Response) -> str:
    status = response.status_code
    sentence = f"{STATUSES.get(status, 'refuses the connection')}: HTTP {status}"
    wait = response.headers.get("Retry-After", "").strip()
    return f"{sentence}, try again in {wait} s" if wait.isdecimal() else sentence


def _reason(error: OSError) -> str:
    """The system's own words; asyncio folds the errors of a host's several addresses into one without a number."""
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    return os.strerror(int(numbers[-1])) if numbers else error.strerror or str(error)
