"""The audio of the meeting on disk: mono, 16 bit, 16 kHz."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from af3stream.errors import SourceError

RATE: Final = 16_000  # Hz
FRAME_BYTES: Final = 2
COPIED_FRAMES: Final = 60 * RATE
RESERVE_BYTES: Final = 1 << 20  # the most zeros that are written at once


class Recording:
    """An append-only file of samples that any thread can read at any position. It survives the process.

    Raises:
        SourceError: from any method, if the disk cannot be written or read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.idle_s = max(0.0, time.time() - path.stat().st_mtime) if path.exists() else 0.0
            path.touch()
            self._file = path.open("r+b", buffering=0)
            self.frames = path.stat().st_size // FRAME_BYTES
        except OSError as error:
            raise self._failed(error) from None

    def append(self, pcm: bytes) -> None:
        """Append samples."""
        try:
            if os.pwrite(self._file.fileno(), pcm, self.frames * FRAME_BYTES) < len(pcm):
                raise OSError(0, "the disk is full")
        except OSError as error:
            raise self._failed(error) from None
        self.frames += len(pcm) // FRAME_BYTES

    def append_silence(self, frames: int) -> None:
        """Append ``frames`` zeros."""
        while frames:
            block = min(frames, RESERVE_BYTES // FRAME_BYTES)
            self.append(bytes(block * FRAME_BYTES))
            frames -= block

    def read(self, begin: int, end: int) -> bytes:
        """Read the samples from ``begin`` to ``end``."""
        try:
            return os.pread(self._file.fileno(), (end - begin) * FRAME_BYTES, begin * FRAME_BYTES)
        except OSError as error:
            raise self._failed(error) from None

    def to_flac(self, path: Path) -> None:
        """Write the whole recording as a FLAC file, block by block."""
        try:
            with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as flac:
                for begin in range(0, self.frames, COPIED_FRAMES):
                    flac.write(np.frombuffer(self.read(begin, min(self.frames, begin + COPIED_FRAMES)), "<i2"))
        except soundfile.LibsndfileError as error:
            raise SourceError(f"cannot write {path}: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _failed(self, error: OSError) -> SourceError:
        return SourceError(f"cannot keep the recording in {self.path}: {error.strerror}")
