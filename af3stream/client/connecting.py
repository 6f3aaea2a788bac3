"""Open a session at an address. Each error message is one sentence."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol

from af3stream.client.backoff import Backoff
from af3stream.client.client_protocol import ClientProtocol
from af3stream.client.closing import is_final, why_closed
from af3stream.client.errors import (
    AdmissionError,
    AuthenticationError,
    ClientError,
    NetworkError,
    ProtocolError,
    ServerError,
    SessionEnded,
)
from af3stream.client.outgoing import credit_frames, frame_bytes
from af3stream.client.replay_buffer import Memory, Spool, Store
from af3stream.client.session import Session
from af3stream.client.transport import Connection, ReconnectingTransport, State
from af3stream.errors import BadMessage, SourceError, quoted
from af3stream.protocol.codec import MSGPACK, ClientCodec, client_codec
from af3stream.protocol.features import FEATURES
from af3stream.protocol.messages import Error, Format, Mode, Ready, Start, Task

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


@dataclass(frozen=True, slots=True)
class ResumeToken:
    """Identify a session to continue, for example one that another process opened.

    Attributes:
        token: the newest ``session.ready.resume`` of the session.
        last_event: the number of the newest event that was processed; the server sends later ones again.
    """

    token: str
    last_event: int = 0


@dataclass(frozen=True, slots=True)
class Handshake:
    """The settings for each connection of a session."""

    address: str
    codec: ClientCodec
    ssl: SSLContext | None
    proxy: str | Literal[True] | None
    headers: dict[str, str]
    timeout_s: float


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
    speakers: bool | int = False,
    language: str | None = None,
    languages: Sequence[str] = (),
    task: Task | None = None,
    vocabulary: Sequence[str] = (),
    words: bool = False,
    instructions: str = "",
    subprotocol: str = MSGPACK,
    reconnect_for: float = 300.0,
    spool: Path | None = None,
    on_state: Callable[[State], None] | None = None,
    resume: ResumeToken | None = None,
    ssl: SSLContext | None = None,
    proxy: str | Literal[True] | None = True,
    additional_headers: Mapping[str, str] | None = None,
    open_timeout: float = OPEN_TIMEOUT_S,
) -> AsyncIterator[Session]:
    """Open a session: ``async with connect("ws://127.0.0.1:8765") as session``. Leaving the block closes it.

    Args:
        url: an address with the scheme ``ws``, ``wss``, ``http`` or ``https``; the default path is ``/v1/stream``.
        token: sent as ``Authorization: Bearer``.
        format: encoding of the samples that are passed to ``Session.send``.
        rate: sample frames per second, in Hz.
        channels: number of interleaved channels.
        mode: ``speech`` leaves out long stretches without speech; ``None`` for the server's default.
        interims: whether to receive partial captions of open utterances.
        speakers: whether final captions say who speaks; a number: so many people at most. ``Session.ready`` says
            whether the server does.
        language: of the speech, a code or ``auto``; ``None`` for the server's own choice. Services of older versions
            refuse this and the next three arguments.
        languages: codes that may occur, at most 32; empty for all that the captioner knows.
        task: ``translate`` for English beside the original; ``None`` for the server's own choice.
        vocabulary: names and terms that are likely to be said, at most 200 of at most 64 characters.
        words: whether final captions say when each word was said; a server that cannot do that refuses the session.
        instructions: the system turn of every question; empty for the model's own. ``Session.instruct`` changes them.
        subprotocol: one of ``af3stream.protocol.codec.SUBPROTOCOLS``.
        reconnect_for: seconds without a connection after which the client gives up; 0 for no second attempt. If the
            server keeps no sessions, the client gives up at once.
        spool: a folder for audio that may have to be sent again, at most the server's credit; by default it is kept
            in memory.
        on_state: called with every new ``Session.state``, from the event loop.
        resume: a session to continue. ``Session.sent`` is then the offset of the next audio.
        ssl: the TLS context of a ``wss`` address; by default the system's certificate authorities are trusted.
        proxy: the address of a proxy; ``True`` for the environment's proxy, which is not used for loopback
            addresses; ``None`` for no proxy.
        additional_headers: HTTP headers of the handshake, besides ``Authorization``.
        open_timeout: seconds for the handshake, and again for the server's ``ready``.

    Raises:
        SourceError: if the address is malformed, or no file can be created in the spool folder.
        AuthenticationError: if the token is refused.
        AdmissionError: if the service has no room now; ``retry_after_s`` says when to try again.
        NetworkError: if the service cannot be reached.
        ProtocolError: if the peer does not follow the protocol.
        ServerError: if the server refuses the session, for example its sample rate or its language.
    """
    codec = client_codec(subprotocol)
    start = Start(
        format,
        rate,
        channels,
        mode,
        interims,
        features=FEATURES,
        speakers=speakers,
        language=language,
        languages=tuple(languages),
        task=task,
        vocabulary=tuple(vocabulary),
        words=words,
        instructions=instructions,
    )
    if resume:
        start = msgspec.structs.replace(start, resume=resume.token, last_event=resume.last_event)
    address = stream_url(url)
    headers = {**(additional_headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    handshake = Handshake(address, codec, ssl, _proxy(address, proxy), headers, open_timeout)
    dial = partial(_dial, handshake)
    connection = await dial(start)
    try:
        with closing(_store(connection.ready, spool)) as store:
            protocol = ClientProtocol(start, connection.ready, store)
            transport = ReconnectingTransport(
                protocol, connection.socket, codec, dial, Backoff(reconnect_for), on_state
            )
            try:
                yield Session(transport, f"-{secrets.token_hex(4)}-" if resume else "")
            finally:
                await transport.close(SessionEnded("the session was left"))
                await transport.disconnect()
    finally:
        await connection.socket.close()


def stream_url(url: str) -> str:
    """Return the WebSocket address of the service at ``url``.

    Raises:
        SourceError: if ``url`` is not ``http(s)://host`` or ``ws(s)://host``, with or without port and path.
    """
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        valid = None
    if not valid:
        raise SourceError(f"{quoted(url)} is not an address of the form ws://host:port")
    path = PATH if parts.path in ("", "/") else parts.path
    return urlunsplit((SCHEMES[parts.scheme], parts.netloc, path, parts.query, ""))


def _proxy(address: str, proxy: str | Literal[True] | None) -> str | Literal[True] | None:
    """Return the proxy to use; the environment's is never used for a loopback address."""
    return None if proxy is True and urlsplit(address).hostname in LOOPBACK else proxy


def _store(ready: Ready, spool: Path | None) -> Store:
    """Return the store for audio that is not durable yet."""
    if spool is None or not ready.resume:
        return Memory()
    return Spool(spool, max(1, credit_frames(ready)) * frame_bytes(ready))


async def _dial(handshake: Handshake, start: Start) -> Connection:
    """Connect, and open or resume a session.

    Raises:
        AdmissionError, NetworkError: if another attempt may succeed.
        AuthenticationError, ProtocolError, ServerError: if it would fail too.
    """
    socket = await _open(handshake)
    try:
        return Connection(socket, await _start(socket, handshake, start))
    except BaseException:
        await socket.close()
        raise


async def _open(handshake: Handshake) -> ClientConnection:
    shown, subprotocol = _without_secrets(handshake.address), handshake.codec.subprotocol
    try:
        socket = await open_socket(
            handshake.address,
            subprotocols=[Subprotocol(subprotocol)],
            additional_headers=handshake.headers,
            ssl=handshake.ssl or (True if urlsplit(handshake.address).scheme == "wss" else None),
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=handshake.timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            proxy=handshake.proxy,
        )
    except InvalidStatus as error:
        raise _refused(shown, error.response) from None
    except TimeoutError:
        raise NetworkError(f"cannot reach {shown}: no answer within {handshake.timeout_s:g} s") from None
    except OSError as error:
        raise NetworkError(f"cannot reach {shown}: {_reason(error)}") from None
    except WebSocketException as error:
        raise NetworkError(f"{shown} does not answer as this service does: {error}") from None
    if socket.subprotocol != subprotocol:
        await socket.close()
        raise ProtocolError(f"{shown} does not speak {subprotocol}")
    return socket


async def _start(socket: ClientConnection, handshake: Handshake, start: Start) -> Ready:
    shown, codec = _without_secrets(handshake.address), handshake.codec
    try:
        async with asyncio.timeout(handshake.timeout_s):
            with suppress(ConnectionClosed):  # first read what the server sent before it closed
                await socket.send(codec.encode(start))
            message = codec.decode(await socket.recv())
    except TimeoutError:
        raise NetworkError(f"{shown} took the connection and then said nothing for {handshake.timeout_s:g} s") from None
    except ConnectionClosed as closed:
        sentence = f"{shown} does not open a session: {why_closed(closed)}"
        raise (ProtocolError if is_final(closed) else NetworkError)(sentence) from None
    except BadMessage as error:
        raise ProtocolError(f"{shown} does not answer as this service does: {error}") from None
    if isinstance(message, Error):
        raise ServerError(message)
    if not isinstance(message, Ready):
        raise ProtocolError(f"{shown} does not answer as this service does: it began with {type(message).__name__}")
    return message


def _without_secrets(address: str) -> str:
    """Return the address without user, password and query, which may hold secrets."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _refused(shown: str, response: Response) -> ClientError:
    """Return the error for an HTTP status that refuses the WebSocket."""
    status = response.status_code
    sentence = f"{shown} {STATUSES.get(status, 'refuses the connection')}: HTTP {status}"
    if status in (401, 403):
        return AuthenticationError(sentence)
    wait = response.headers.get("Retry-After", "").strip()
    if wait.isdecimal():
        sentence += f", try again in {wait} s"
    retry_after_s = float(wait) if wait.isdecimal() else 0.0
    if status in (429, 503):
        return AdmissionError(sentence, retry_after_s)
    if status >= 500:
        return NetworkError(sentence, retry_after_s)
    return ProtocolError(sentence)


def _reason(error: OSError) -> str:
    """Return the system's message. For a host with several addresses, asyncio joins their errors and drops errno."""
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    return os.strerror(int(numbers[-1])) if numbers else error.strerror or str(error)
