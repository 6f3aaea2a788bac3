"""List microphones, and capture audio without blocking."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import SourceError

BLOCK_MS: Final = 100
MIC_TYPES: Final = {"pcm_s16le": "int16", "pcm_f32le": "float32"}


@dataclass(frozen=True, slots=True)
class Lost:
    """Sample frames that were not captured in time."""

    frames: int


@dataclass(frozen=True, slots=True)
class Device:
    """An input device; ``default`` is used if none is named."""

    index: int
    name: str
    system: str  # its sound system, such as ALSA or Core Audio
    channels: int
    default: bool


class OverflowDeclaredLost:
    """Queue at most ``capacity`` captured blocks. A block that does not fit is declared lost at its place.

    One thread puts, and never blocks, not even on a lock. One event loop takes.

    Attributes:
        lost: number of sample frames that did not fit or were never captured.
    """

    def __init__(self, capacity: int, frame_bytes: int) -> None:
        self.capacity, self.frame_bytes = capacity, frame_bytes
        self.lost = 0
        self._told = 0  # the part of `lost` that was reported
        self._waiting: deque[tuple[int, bytes]] = deque()  # each with the frames lost before it
        self._wake: Callable[[], object] = _nobody_waits

    @property
    def waiting(self) -> int:
        """Number of blocks in the queue."""
        return len(self._waiting)

    def put(self, block: bytes) -> None:
        """Add a block, or count it as lost if the queue is full."""
        if len(self._waiting) < self.capacity:
            self._waiting.append((self.lost, block))
            self._wake()
        else:
            self.lose(len(block) // self.frame_bytes)

    def lose(self, frames: int) -> None:
        """Count sample frames that were never captured."""
        self.lost += frames
        self._wake()

    async def take(self) -> bytes | Lost:
        """Wait for and return the oldest block or loss."""
        arrived = asyncio.Event()
        self._wake = partial(_from_any_thread, asyncio.get_running_loop(), arrived)
        while not self._waiting and self.lost == self._told:
            arrived.clear()
            await arrived.wait()
        self._wake = _nobody_waits
        lost = self._waiting[0][0] if self._waiting else self.lost
        if lost > self._told:
            lost, self._told = lost - self._told, lost
            return Lost(lost)
        return self._waiting.popleft()[1]


def _nobody_waits() -> None:
    pass


def _from_any_thread(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the event loop is closed
        loop.call_soon_threadsafe(event.set)


def devices() -> list[Device]:
    """Return every input device, with the default one marked.

    Raises:
        SourceError: if audio is not available; the message says what to install.
    """
    sounddevice = _sounddevice()
    try:
        default = sounddevice.default.device[0]
        systems = sounddevice.query_hostapis()
        return [
            Device(index, each["name"], systems[each["hostapi"]]["name"], each["max_input_channels"], index == default)
            for index, each in enumerate(sounddevice.query_devices())
            if each["max_input_channels"]
        ]
    except sounddevice.PortAudioError as error:
        raise SourceError(f"no microphone can be listed: {error}") from None


@contextmanager
def capturing(audio_format: AudioFormat, captured: OverflowDeclaredLost, device: str | None = None) -> Iterator[None]:
    """Capture a microphone into ``captured`` from now on, so that no audio is missed while a connection opens.

    Args:
        device: its number, or a part of its name that no other has; by default the system's choice.

    Raises:
        SourceError: if microphones do not support the format, or the device is absent or cannot be opened.
    """
    if audio_format.format not in MIC_TYPES:
        raise SourceError(f"a microphone gives {' or '.join(MIC_TYPES)}, not {audio_format.format}")
    sounddevice = _sounddevice()
    try:
        stream = sounddevice.RawInputStream(
            samplerate=audio_format.rate,
            channels=audio_format.channels,
            dtype=MIC_TYPES[audio_format.format],
            blocksize=audio_format.rate * BLOCK_MS // 1_000,
            device=int(device) if device and device.isdecimal() else device,
            callback=_Callback(audio_format.rate, captured),
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise SourceError(f"no microphone can be opened: {error}") from None
    with stream:
        yield


class _Callback:
    """PortAudio's callback for every block, on a thread that must not block."""

    def __init__(self, rate: int, captured: OverflowDeclaredLost) -> None:
        self._rate, self._captured = rate, captured
        self._due: float | None = None  # when the next block begins, by the device's clock, in seconds

    def __call__(self, block: Any, frames: int, time: Any, status: Any) -> None:
        began = time.inputBufferAdcTime
        if status.input_overflow and self._due is not None:  # PortAudio dropped audio before this block
            self._captured.lose(max(0, round((began - self._due) * self._rate)))
        self._due = began + frames / self._rate
        self._captured.put(bytes(block))


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
