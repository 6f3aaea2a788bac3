"""Where audio comes from: a file, standard input, a microphone."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from af3stream.audio.files import stream_blocks
from af3stream.audio.pcm import AudioFormat
from af3stream.errors import BadFormat, SourceError
from af3stream.listen.options import ListenOptions

BLOCK_MS: Final = 100
CAPTURE_BLOCKS: Final = 100  # 10 s of the microphone wait for a slow connection
PIPE_BLOCKS: Final = 4
MIC_TYPES: Final = {"pcm_s16le": "int16", "pcm_f32le": "float32"}


@dataclass(frozen=True, slots=True)
class Lost:
    """Sample frames that were not captured in time."""

    frames: int


@dataclass(frozen=True, slots=True)
class Source:
    """Audio blocks of one format; ``live`` ones come at their own pace."""

    format: AudioFormat
    blocks: AsyncIterator[bytes | Lost]
    live: bool = False


@asynccontextmanager
async def open_source(options: ListenOptions) -> AsyncIterator[Source]:
    """Open what ``options.source`` names, for the length of the block.

    Raises:
        SourceError: for what cannot be opened or is no audio, with what to do about it.
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
    with _capture(audio_format, captured):
        yield Source(audio_format, _captured(captured), live=True)


async def _file(blocks: Iterator[bytes]) -> AsyncIterator[bytes | Lost]:
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block


async def _pipe(descriptor: int, audio_format: AudioFormat) -> AsyncIterator[bytes | Lost]:
    """Whole sample frames from a file descriptor.

    A daemon thread reads: a thread of the pool would hold up the exit until its read returns, which may be never.
    """
    if os.isatty(descriptor):
        raise SourceError("standard input is a terminal, expected raw PCM from a pipe or a file")
    queue: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    places = threading.Semaphore(PIPE_BLOCKS)
    size = _block_frames(audio_format) * audio_format.bytes_per_frame
    reader = (descriptor, size, places, asyncio.get_running_loop(), queue)
    threading.Thread(target=_read_pipe, args=reader, name="af3stream-stdin", daemon=True).start()
    rest = b""
    while chunk := await queue.get():
        if isinstance(chunk, OSError):
            raise SourceError(f"cannot read standard input: {chunk.strerror}")
        whole, rest = _whole_frames(rest + chunk, audio_format.bytes_per_frame)
        if whole:
            yield whole
        places.release()


def _read_pipe(
    descriptor: int,
    size: int,
    places: threading.Semaphore,
    loop: asyncio.AbstractEventLoop,
    queue: asyncio.Queue[bytes | OSError],
) -> None:
    chunk: bytes | OSError = b"more"
    with suppress(RuntimeError):  # the loop is closed, and nobody listens
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


class OverflowDeclaredLost:
    """Captured blocks waiting to be sent, at most ``capacity``; one that finds no room is declared lost in its place.

    :meth:`put` never waits. All calls come from one thread.
    """

    def __init__(self, capacity: int, frame_bytes: int) -> None:
        self.capacity, self.frame_bytes = capacity, frame_bytes
        self._waiting: deque[bytes | Lost] = deque()
        self._arrived = asyncio.Event()

    def put(self, block: bytes) -> None:
        """Add a block, or what it was if there is no room."""
        if len(self._waiting) < self.capacity:
            self._waiting.append(block)
        else:
            newest = self._waiting[-1]
            lost = len(block) // self.frame_bytes
            if isinstance(newest, Lost):
                self._waiting[-1] = Lost(newest.frames + lost)
            else:
                self._waiting.append(Lost(lost))
        self._arrived.set()

    async def take(self) -> bytes | Lost:
        """The oldest block or loss, when there is one."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


async def _captured(captured: OverflowDeclaredLost) -> AsyncIterator[bytes | Lost]:
    while True:
        yield await captured.take()


@contextmanager
def _capture(audio_format: AudioFormat, captured: OverflowDeclaredLost) -> Iterator[None]:
    """The default input device into ``captured``, from now on, so that nothing is missed while a connection opens."""
    if audio_format.format not in MIC_TYPES:
        raise SourceError(f"a microphone gives {' or '.join(MIC_TYPES)}, not {audio_format.format}")
    sounddevice = _sounddevice()
    loop = asyncio.get_running_loop()

    def on_block(block: Any, frames: int, time: Any, status: Any) -> None:  # noqa: ARG001
        loop.call_soon_threadsafe(captured.put, bytes(block))

    try:
        stream = sounddevice.RawInputStream(
            samplerate=audio_format.rate,
            channels=audio_format.channels,
            dtype=MIC_TYPES[audio_format.format],
            blocksize=_block_frames(audio_format),
            callback=on_block,
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise SourceError(f"no microphone can be opened: {error}") from None
    with stream:
        yield


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise SourceError("the microphone needs the package sounddevice: pip install 'af3stream[mic]'") from None
    except OSError:
        raise SourceError(
            "the microphone needs the PortAudio library: apt install libportaudio2, or brew install portaudio"
        ) from None
    return sounddevice
