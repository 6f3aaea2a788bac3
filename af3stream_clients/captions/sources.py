"""Audio sources: a microphone, the system's output, or a file."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from af3stream.audio.files import stream_blocks
from af3stream.audio.pcm import AudioFormat
from af3stream.errors import SourceError
from af3stream.listen.microphone import BLOCK_MS, Lost, OverflowDeclaredLost, capturing, devices

CAPTURE_BLOCKS: Final = 300  # buffers 30 s while the connection is being made
NO_AUDIO_TIMEOUT_S: Final = 3.0  # a device delivers a block every 100 ms, in silence too
LIVE: Final = AudioFormat("pcm_s16le", 16_000, 1)
BLOCK_BYTES: Final = LIVE.rate * BLOCK_MS // 1_000 * LIVE.bytes_per_frame
DEFAULT_MONITOR: Final = "@DEFAULT_MONITOR@"

SourceKind = Literal["microphone", "system", "file"]
Blocks = AsyncIterator[bytes | Lost]


class Source(Protocol):
    """Audio in one format.

    Attributes:
        name: shown to people.
        live: whether it is captured in real time, and closed while paused.
        waiting_s: seconds captured and not read yet.
    """

    name: str
    format: AudioFormat
    live: bool

    @property
    def waiting_s(self) -> float: ...

    def listening(self) -> AbstractAsyncContextManager[Blocks]:
        """Open the source, and read its blocks; a file continues where it was left.

        Raises:
            SourceError: if it cannot be opened, or fails later.
        """


@dataclass(frozen=True, slots=True)
class Choice:
    """A source that the user chose; ``name`` is a device, empty for the default one, or a path."""

    kind: SourceKind
    name: str = ""


async def open_source(choice: Choice) -> Source:
    """Open the chosen source.

    Raises:
        SourceError: for a file that cannot be read.
    """
    match choice.kind:
        case "file":
            audio_format, blocks = await asyncio.to_thread(stream_blocks, Path(choice.name), BLOCK_MS)
            return File(Path(choice.name).name, audio_format, blocks)
        case "system":
            return System(choice.name)
        case _:
            return Microphone(choice.name)


class File:
    """An audio file. The reader paces it in real time."""

    live, waiting_s = False, 0.0

    def __init__(self, name: str, audio_format: AudioFormat, blocks: Iterator[bytes]) -> None:
        self.name, self.format, self._blocks = name, audio_format, blocks

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Blocks]:
        yield self._read()

    async def _read(self) -> Blocks:
        while block := await asyncio.to_thread(next, self._blocks, b""):
            yield block


class _Live:
    """A device. Blocks are buffered while the connection is slow, and declared lost if the buffer is full."""

    live, format = True, LIVE

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device
        self._captured = OverflowDeclaredLost(CAPTURE_BLOCKS, LIVE.bytes_per_frame)

    @property
    def waiting_s(self) -> float:
        return self._captured.waiting * BLOCK_MS / 1_000

    async def _blocks(self) -> Blocks:
        while True:
            try:
                yield await asyncio.wait_for(self._captured.take(), NO_AUDIO_TIMEOUT_S)
            except TimeoutError:
                raise SourceError(f"{self.name} gives no sound any more") from None


class Microphone(_Live):
    """An input device, captured through PortAudio."""

    def __init__(self, device: str = "") -> None:
        super().__init__(device or "the microphone", device)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Blocks]:
        with ExitStack() as stack:
            opening = capturing(LIVE, self._captured, self.device or None)
            await asyncio.to_thread(stack.enter_context, opening)
            yield self._blocks()


class System(_Live):
    """The system's output, captured from its monitor through PulseAudio or PipeWire's PulseAudio server."""

    def __init__(self, device: str = "") -> None:
        super().__init__("the system's sound", device or DEFAULT_MONITOR)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Blocks]:
        if not shutil.which("parec"):
            raise SourceError(monitor_help())
        parec = await asyncio.create_subprocess_exec(
            *("parec", "--raw", f"--device={self.device}", "--format=s16le", f"--latency-msec={BLOCK_MS}"),
            *(f"--rate={LIVE.rate}", f"--channels={LIVE.channels}", "--client-name=af3stream captions"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert parec.stdout
        reading = asyncio.create_task(self._read(parec.stdout))
        try:
            yield self._blocks_until_exit(reading, parec)
        finally:
            reading.cancel()
            if parec.returncode is None:
                parec.kill()
            await parec.communicate()

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        try:
            while True:
                self._captured.put(await stdout.readexactly(BLOCK_BYTES))
        except asyncio.IncompleteReadError:
            pass

    async def _blocks_until_exit(self, reading: asyncio.Task[None], parec: asyncio.subprocess.Process) -> Blocks:
        try:
            async for block in self._blocks():
                yield block
        except SourceError:
            if not reading.done():
                raise
            _, said = await parec.communicate()
            reason = said.decode(errors="replace").strip() or "the sound server is gone"
            raise SourceError(f"{self.name} cannot be heard: {reason}") from None


def monitor_help() -> str:
    """Explain why the system's output cannot be captured, and what to install."""
    if sys.platform.startswith("linux"):
        return "hearing the system needs the program parec: install pulseaudio-utils"
    cable = "BlackHole" if sys.platform == "darwin" else "Stereo Mix or VB-Cable"
    return f"this system does not lend its sound to programs: install {cable}, and choose it as the microphone"


def microphones() -> list[str]:
    """Return the names of the input devices; empty if PortAudio is missing."""
    try:
        return list(dict.fromkeys(device.name for device in devices()))
    except SourceError:
        return []
