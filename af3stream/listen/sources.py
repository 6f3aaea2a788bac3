"""Open audio sources: a file, standard input, a microphone."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from af3stream.audio.files import stream_blocks
from af3stream.audio.pcm import AudioFormat
from af3stream.errors import BadFormat, SourceError
from af3stream.listen.microphone import BLOCK_MS, Lost, OverflowDeclaredLost, capturing
from af3stream.listen.options import ListenOptions

CAPTURE_BLOCKS: Final = 100  # 10 s of the microphone, for a slow connection
PIPE_BLOCKS: Final = 4


@dataclass(frozen=True, slots=True)
class Source:
    """Audio blocks of one format; ``live`` sources arrive at their own pace."""

    format: AudioFormat
    blocks: AsyncIterator[bytes | Lost]
    live: bool = False


@asynccontextmanager
async def open_source(options: ListenOptions) -> AsyncIterator[Source]:
    """Open the source that ``options.source`` names, within the context.

    Raises:
        SourceError: if it cannot be opened or has no audio; the message says what to do.
    """
    if options.source not in ("-", "mic"):
        file_format, blocks = await asyncio.to_thread(stream_blocks, Path(options.source), BLOCK_MS)
        yield Source(file_format, _file(blocks))
        return
    try:
        audio_format = AudioFormat(options.format, options.rate, options.channels)
    except BadFormat as error:
        raise SourceError(str(error)) from None
    if options.source == "-":
        yield Source(audio_format, _pipe(sys.stdin.fileno(), audio_format))
        return
    captured = OverflowDeclaredLost(CAPTURE_BLOCKS, audio_format.bytes_per_frame)
    with capturing(audio_format, captured, options.device):
        yield Source(audio_format, _captured(captured), live=True)


async def _file(blocks: Iterator[bytes]) -> AsyncIterator[bytes | Lost]:
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block


async def _pipe(descriptor: int, audio_format: AudioFormat) -> AsyncIterator[bytes | Lost]:
    """Yield whole sample frames from a file descriptor.

    A daemon thread reads: a thread of the default pool would delay the exit until its read returns, which may be never.
    """
    if os.isatty(descriptor):
        raise SourceError("standard input is a terminal, expected raw PCM from a pipe or a file")
    queue: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    places = threading.Semaphore(PIPE_BLOCKS)
    size = _block_frames(audio_format) * audio_format.bytes_per_frame
    reader = (descriptor, size, places, asyncio.get_running_loop(), queue)
    threading.Thread(target=_read_pipe, args=reader, name="af3stream-stdin", daemon=True).start()
    rest, heard = b"", False
    while chunk := await queue.get():
        if isinstance(chunk, OSError):
            raise SourceError(f"cannot read standard input: {chunk.strerror}")
        whole, rest = _whole_frames(rest + chunk, audio_format.bytes_per_frame)
        if whole:
            heard = True
            yield whole
        places.release()
    if rest:
        size = audio_format.bytes_per_frame
        raise SourceError(f"standard input ended within a sample: {len(rest)} of its {size} bytes came")
    if not heard:
        raise SourceError("no audio came on standard input; did the command before the pipe fail?")


def _read_pipe(
    descriptor: int,
    size: int,
    places: threading.Semaphore,
    loop: asyncio.AbstractEventLoop,
    queue: asyncio.Queue[bytes | OSError],
) -> None:
    chunk: bytes | OSError = b"more"
    with suppress(RuntimeError):  # the event loop is closed
        while chunk and not isinstance(chunk, OSError):
            places.acquire()
            try:
                chunk = os.read(descriptor, size)
            except OSError as error:
                chunk = error
            loop.call_soon_threadsafe(queue.put_nowait, chunk)


def _whole_frames(data: bytes, frame_bytes: int) -> tuple[bytes, bytes]:
    whole = len(data) - len(data) % frame_bytes
    return data[:whole], data[whole:]


def _block_frames(audio_format: AudioFormat) -> int:
    return audio_format.rate * BLOCK_MS // 1_000


async def _captured(captured: OverflowDeclaredLost) -> AsyncIterator[bytes | Lost]:
    while True:
        yield await captured.take()
