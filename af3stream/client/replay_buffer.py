"""Keep audio that may have to be sent again, in memory or in a file. No clock, no socket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from af3stream.errors import SourceError
from af3stream.protocol.messages import Audio, Gap


class Store(Protocol):
    """Store bytes by address. Addresses only grow; skipped addresses have undefined content."""

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` at an address at or after the end of all earlier writes."""

    def read(self, address: int, size: int) -> bytes:
        """Return bytes that were written and not freed."""

    def free(self, below: int) -> None:
        """Free all bytes below an address."""

    def close(self) -> None:
        """Release the store; it must not be used after this."""


class Memory:
    """Store bytes in memory. Freed bytes take no room."""

    def __init__(self) -> None:
        self._bytes, self._begin = bytearray(), 0

    def write(self, address: int, data: bytes) -> None:
        skipped = address - self._begin - len(self._bytes)
        self._bytes += bytes(skipped) + data

    def read(self, address: int, size: int) -> bytes:
        return bytes(self._bytes[address - self._begin : address - self._begin + size])

    def free(self, below: int) -> None:
        if below > self._begin:
            del self._bytes[: below - self._begin]
            self._begin = below

    def close(self) -> None:
        self._bytes.clear()


class Spool:
    """Store bytes in an unnamed file, a ring of ``capacity`` bytes. No file is left behind, even after a kill.

    Raises:
        SourceError: if the file cannot be created; from other methods, if the disk is full or fails.
    """

    def __init__(self, folder: Path, capacity: int) -> None:
        self._folder, self._capacity = folder, capacity
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise self._failed(error) from None

    def write(self, address: int, data: bytes) -> None:
        begin = 0
        for place, size in self._spans(address, len(data)):
            try:
                self._file.seek(place)
                if self._file.write(data[begin : begin + size]) < size:
                    raise OSError(0, "the disk is full")
            except OSError as error:
                raise self._failed(error) from None
            begin += size

    def read(self, address: int, size: int) -> bytes:
        parts = []
        for place, span in self._spans(address, size):
            try:
                self._file.seek(place)
                parts.append(self._file.read(span))
            except OSError as error:
                raise self._failed(error) from None
        return b"".join(parts)

    def free(self, below: int) -> None:
        """Do nothing: the ring is overwritten."""

    def close(self) -> None:
        self._file.close()

    def _spans(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield position and size of the one or two parts of the file that hold the bytes."""
        while size:
            place = address % self._capacity
            span = min(size, self._capacity - place)
            yield place, span
            address, size = address + span, size - span

    def _failed(self, error: OSError) -> SourceError:
        return SourceError(f"cannot keep audio in {self._folder}: {error.strerror}")


class ReplayBuffer:
    """Keep the newest part of a timeline: sample frames, and ranges that are lost.

    Attributes:
        begin: the offset of the oldest sample frame kept.
        end: the offset after the newest one.
    """

    def __init__(self, frame_bytes: int, store: Store, begin: int = 0) -> None:
        self.begin = self.end = begin
        store.free(begin * frame_bytes)
        self._frame_bytes, self._store = frame_bytes, store
        self._lost: list[range] = []  # in order, and not adjacent

    def append(self, pcm: bytes) -> None:
        """Append whole sample frames.

        Raises:
            SourceError: if the store fails; the frames are not kept then.
        """
        self._store.write(self.end * self._frame_bytes, pcm)
        self.end += len(pcm) // self._frame_bytes

    def append_lost(self, frames: int) -> None:
        """Append ``frames`` lost sample frames."""
        self.end += frames
        self.lose(self.end - frames, self.end)

    def lose(self, begin: int, end: int) -> None:
        """Mark a range as lost."""
        touching = [lost for lost in self._lost if lost.start <= end and begin <= lost.stop]
        whole = range(min([begin, *(lost.start for lost in touching)]), max([end, *(lost.stop for lost in touching)]))
        apart = [lost for lost in self._lost if lost not in touching]
        self._lost = sorted([*apart, whole], key=lambda lost: lost.start)

    def free(self, below: int) -> None:
        """Drop all frames below an offset."""
        self.begin = max(self.begin, min(below, self.end))
        self._store.free(self.begin * self._frame_bytes)
        self._lost = [lost for lost in self._lost if lost.stop > self.begin]

    def piece(self, offset: int, most: int) -> Audio | Gap:
        """Return one message with at most ``most`` sample frames from ``offset`` on."""
        end = min(self.end, offset + most)
        for lost in self._lost:
            if lost.start <= offset < lost.stop:
                return Gap(offset, min(lost.stop, end) - offset)
            if offset < lost.start < end:
                end = lost.start
        return Audio(offset, self._store.read(offset * self._frame_bytes, (end - offset) * self._frame_bytes))
