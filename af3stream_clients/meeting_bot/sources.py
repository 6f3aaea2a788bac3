"""Audio sources of a meeting: a file, FFmpeg, standard input or Attendee, converted to mono at 16 kHz."""

from __future__ import annotations

import asyncio
import hmac
import http
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from af3stream.audio.files import stream_blocks
from af3stream.audio.pcm import AudioFormat, PcmDecoder
from af3stream.client.backoff import delay_s as backoff_s
from af3stream.errors import SourceError, quoted
from af3stream_clients.meeting_bot.attendee import Chunk, InvalidMessage, Missing, Mixer, Name, Turn, read
from af3stream_clients.meeting_bot.recording import RATE

if TYPE_CHECKING:
    from av.container import InputContainer

BLOCK_MS: Final = 100
QUEUED: Final = 64  # the most pieces between a thread or a socket and the recording
MAX_MESSAGE_BYTES: Final = 1 << 20
QUIET_S: Final = 3.0  # without a message for so long, the timeline continues in silence
POLL_S: Final = 0.2
PACE: Final = 1.5  # times real time; a faster source is a download, not live, after the first AHEAD_S
AHEAD_S: Final = 30.0

Piece = bytes | Missing | Turn | Name
Block = bytes | Missing | BaseException | None


@dataclass(frozen=True, slots=True)
class Source:
    """An open source.

    Attributes:
        pieces: 16-bit samples, gaps, speaker turns and names of participants.
        live: whether it continues while the bot is stopped; other sources start again with every run.
        timed: whether its time stamps show how long the bot was stopped.
        origin_ms: Attendee's time stamp at the start of the recording, once it is known.
    """

    pieces: AsyncIterator[Piece]
    live: bool
    timed: bool = False
    origin_ms: Callable[[], int | None] = lambda: None
    address: str = ""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What an earlier run received: number of sample frames, and Attendee's time stamp of the first one."""

    frames: int = 0
    origin_ms: int | None = None


@asynccontextmanager
async def open_source(location: str, resume_point: ResumePoint, end_after_s: float) -> AsyncIterator[Source]:
    """Open the source that ``--source`` names, within the context.

    Args:
        location: a file; ``-`` for raw 16-bit mono samples at 16 kHz; an address with ``://`` or ``FORMAT:DEVICE`` for
            FFmpeg; ``attendee://host:port/path`` for Attendee to dial.
        resume_point: where an earlier run stopped.
        end_after_s: the meeting is over after so many seconds without a connection from Attendee, or without a live
            source that broke off.

    Raises:
        SourceError: if the source cannot be opened.
    """
    if location.startswith("attendee://"):
        async with _attendee(location, resume_point, end_after_s) as source:
            yield source
        return
    if location == "-":
        if sys.stdin.isatty():
            raise SourceError("standard input is a terminal, expected raw PCM from a pipe")
        yield Source(_threaded(_pipe), live=True)
        return
    path = Path(location)
    if ":" not in location or await asyncio.to_thread(path.exists):
        audio_format, blocks = await asyncio.to_thread(stream_blocks, path, BLOCK_MS)
        yield Source(_threaded(lambda: _decoded(audio_format, blocks)), live=False)
        return
    container = await asyncio.to_thread(_open_av, location)
    yield Source(_threaded(lambda: _broadcast(location, container, end_after_s)), live=True)


async def _threaded(make: Callable[[], Iterator[bytes | Missing]]) -> AsyncIterator[Piece]:
    """Read blocks in a daemon thread, which waits while the queue is full."""
    queue: asyncio.Queue[Block] = asyncio.Queue()
    places, loop, left = threading.Semaphore(QUEUED), asyncio.get_running_loop(), threading.Event()

    def give(block: Block) -> None:
        places.acquire()
        loop.call_soon_threadsafe(queue.put_nowait, block)

    def work() -> None:
        with suppress(RuntimeError):  # the event loop is closed
            try:
                for block in make():
                    give(block)
                    if left.is_set():
                        return
                give(None)
            except (SourceError, OSError) as error:
                give(error)

    threading.Thread(target=work, name="meeting-bot-source", daemon=True).start()
    try:
        while (block := await queue.get()) is not None:
            places.release()
            if isinstance(block, BaseException):
                raise block if isinstance(block, SourceError) else SourceError(f"cannot read the source: {block}")
            yield block
    finally:
        left.set()
        places.release()


def to_pcm(samples: NDArray[np.float32]) -> bytes:
    """Convert samples within ±1 to 16-bit little-endian bytes."""
    return (samples * 32_767).round().clip(-32_768, 32_767).astype("<i2").tobytes()


def _decoded(audio_format: AudioFormat, blocks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = PcmDecoder(audio_format)
    for block in blocks:
        yield to_pcm(decoder.decode(block))
    yield to_pcm(decoder.finish())


def _pipe() -> Iterator[bytes]:
    rest = b""
    while block := os.read(sys.stdin.fileno(), RATE * 2 * BLOCK_MS // 1_000):
        block = rest + block
        whole = len(block) // 2 * 2
        rest = block[whole:]
        if whole:
            yield block[:whole]


def _open_av(location: str) -> InputContainer:
    import av

    name, device = (None, location) if "://" in location else location.split(":", 1)
    try:
        container = av.open(device, format=name, timeout=30.0)
    except (av.FFmpegError, ValueError, OSError) as error:
        shown = urlsplit(location)._replace(query="").geturl().rpartition("@")[2] if "://" in location else location
        raise SourceError(f"FFmpeg cannot open {shown}: {error}") from None
    if not container.streams.audio:
        container.close()
        raise SourceError(f"no audio in {location}")
    return container


def _broadcast(location: str, container: InputContainer, end_after_s: float) -> Iterator[bytes | Missing]:
    """Read with FFmpeg. A live source that ends or breaks off is opened again, and the time between is a gap."""
    while True:
        opened, frames = time.monotonic(), 0
        unbounded = container.duration is None  # a source with a duration would start from its beginning
        try:
            for block in _av_blocks(container):
                frames += len(block) // 2
                yield block
        except SourceError:
            if not unbounded:
                raise
        left = time.monotonic()  # without a duration, FFmpeg does not distinguish an end from a failure
        live = unbounded and frames / RATE <= PACE * (left - opened) + AHEAD_S
        if not live or (following := _open_again(location, left + end_after_s)) is None:
            return
        container = following
        yield Missing(round((time.monotonic() - left) * RATE))


def _open_again(location: str, until: float) -> InputContainer | None:
    """Open a source again with backoff; return ``None`` if that fails until ``until``."""
    attempt = 0
    while time.monotonic() + (delay := backoff_s(attempt, random())) < until:
        time.sleep(delay)
        with suppress(SourceError):
            return _open_av(location)
        attempt += 1
    return None


def _av_blocks(container: InputContainer) -> Iterator[bytes]:
    import av

    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with container:
        try:
            for frame in container.decode(audio=0):
                for block in resampler.resample(frame):
                    yield block.to_ndarray().tobytes()
            for block in resampler.resample(None):
                yield block.to_ndarray().tobytes()
        except av.FFmpegError as error:
            raise SourceError(f"the source broke off: {error}") from None


@asynccontextmanager
async def _attendee(location: str, resume_point: ResumePoint, end_after_s: float) -> AsyncIterator[Source]:
    """Serve a WebSocket for Attendee to connect to. Only the exact path is accepted, which acts as a secret."""
    parts = urlsplit(location)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if not parts.hostname or parts.port is None or path in ("", "/"):
        raise SourceError(f"{quoted(location)} is not of the form attendee://host:port/a-path-that-nobody-guesses")
    receiver = _AttendeeReceiver(Mixer(resume_point.frames, resume_point.origin_ms), end_after_s)

    def admit(connection: ServerConnection, request: Request) -> Response | None:
        if hmac.compare_digest(request.path.encode(), path.encode()):
            return None
        return connection.respond(http.HTTPStatus.NOT_FOUND, "not here\n")

    try:
        server = await serve(
            receiver.connection,
            parts.hostname,
            parts.port,
            process_request=admit,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=QUEUED,
            compression=None,
            close_timeout=2,
        )
    except OSError as error:
        raise SourceError(f"cannot listen on {parts.hostname}:{parts.port}: {error.strerror}") from None
    async with server:
        port = next(iter(server.sockets)).getsockname()[1]
        address = f"ws://{parts.hostname}:{port}{path}"
        yield Source(receiver.pieces(), True, True, lambda: receiver.mixer.origin_ms, address)


class _AttendeeReceiver:
    """Receives the connections of one meeting. A full queue applies back-pressure to Attendee."""

    def __init__(self, mixer: Mixer, end_after_s: float) -> None:
        self.mixer, self._end_after_s = mixer, end_after_s
        self._queue: asyncio.Queue[Chunk | Name | None] = asyncio.Queue(QUEUED)
        self._open = 0
        self._bot_id = ""

    async def connection(self, socket: ServerConnection) -> None:
        """Handle one connection."""
        self._open += 1
        try:
            if self._open == 1:
                await self._queue.put(None)
            async for message in socket:
                try:
                    bot_id, said = read(message)
                except InvalidMessage:
                    await socket.close(1007, "not a message of Attendee's")
                    return
                self._bot_id = self._bot_id or bot_id
                if bot_id and bot_id != self._bot_id:
                    await socket.close(1008, "another meeting's bot")
                    return
                for part in said:
                    await self._queue.put(part)
        except ConnectionClosed:
            pass
        finally:
            self._open -= 1

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield pieces until Attendee was disconnected for ``end_after_s`` seconds."""
        clock = asyncio.get_running_loop().time
        silent_s, away = 0.0, None  # time in which the caller is busy does not count as silence
        while True:
            began = clock()
            try:
                async with asyncio.timeout(POLL_S):
                    part = await self._queue.get()
            except TimeoutError:
                now = clock()
                silent_s += now - began
                away = None if self._open else away or now
                if away is not None and now - away >= self._end_after_s:
                    break
                if self._open and self.mixer.given and silent_s >= QUIET_S:
                    self.mixer.quiet(round(silent_s * RATE))
                    silent_s = 0.0
            else:
                if part is None:
                    self.mixer.reconnected()
                    continue
                silent_s, away = 0.0, None
                if isinstance(part, Name):
                    yield part
                else:
                    self.mixer.push(part)
            for piece in self.mixer.pull():
                yield to_pcm(piece) if isinstance(piece, np.ndarray) else piece
        for piece in self.mixer.pull(all_of_it=True):
            yield to_pcm(piece) if isinstance(piece, np.ndarray) else piece
