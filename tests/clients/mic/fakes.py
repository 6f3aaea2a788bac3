"""A fake of ``sounddevice``, because tests have no microphone."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

BLOCK = bytes(3_200)
BLOCK_FRAMES = 1_600


class FakeSounddevice:
    """Two devices, one of them an input; a test feeds it with :meth:`speak`."""

    PortAudioError = type("PortAudioError", (Exception,), {})
    default = SimpleNamespace(device=(1, 0))

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.closed = False
        self.clock_s = 0.0

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}]

    def query_devices(self) -> list[dict[str, Any]]:
        return [
            {"name": "loudspeaker", "hostapi": 0, "max_input_channels": 0},
            {"name": "room", "hostapi": 0, "max_input_channels": 1},
        ]

    def RawInputStream(self, **options: Any) -> FakeSounddevice:  # noqa: N802 - sounddevice's name
        self.options = options
        return self

    def start(self) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def speak(self, block: bytes = BLOCK, overflow: bool = False, late_s: float = 0.0) -> None:
        """Deliver the next block as PortAudio does, ``late_s`` after the end of the previous one."""
        callback: Callable[..., None] = self.options["callback"]
        frames = len(block) // 2
        self.clock_s += late_s
        callback(
            block, frames, SimpleNamespace(inputBufferAdcTime=self.clock_s), SimpleNamespace(input_overflow=overflow)
        )
        self.clock_s += frames / self.options["samplerate"]
