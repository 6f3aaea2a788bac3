"""Encode audio, gaps and events as records with a checksum.

A record on disk is ``magic, kind, offset, frames, length, crc32`` and ``length`` bytes of audio. The checksum covers
everything except itself.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from af3stream.journal.errors import TornRecord

MAGIC: Final = b"AF3j"
_FACTS: Final = struct.Struct("<4sBQII")  # magic, kind, offset, frames, length
_CHECKSUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _FACTS.size + _CHECKSUM.size


class Kind(IntEnum):
    """The kind of a record on disk."""

    AUDIO = 1
    GAP = 2


@dataclass(frozen=True, slots=True)
class AudioRecord:
    """``frames`` sample frames from ``offset`` on: the client's bytes, in the session's format."""

    offset: int
    pcm: bytes
    frames: int

    @property
    def end(self) -> int:
        """The frame after the record."""
        return self.offset + self.frames

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return HEADER_BYTES + len(self.pcm)


@dataclass(frozen=True, slots=True)
class GapRecord:
    """``frames`` sample frames from ``offset`` on that the client declared lost."""

    offset: int
    frames: int

    @property
    def end(self) -> int:
        """The frame after the record."""
        return self.offset + self.frames

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return HEADER_BYTES


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A server message that is kept, in JSON; ``number`` counts the events of a session from 1."""

    number: int
    message: bytes

    @property
    def size(self) -> int:
        """Approximate bytes on disk."""
        return HEADER_BYTES + len(self.message)


AudioInput = AudioRecord | GapRecord
Record = AudioInput | EventRecord


def encode(record: AudioInput) -> bytes:
    """Return the bytes of a record on disk."""
    kind, pcm = (Kind.AUDIO, record.pcm) if isinstance(record, AudioRecord) else (Kind.GAP, b"")
    facts = _FACTS.pack(MAGIC, kind, record.offset, record.frames, len(pcm))
    return facts + _CHECKSUM.pack(zlib.crc32(pcm, zlib.crc32(facts))) + pcm


def decode(data: bytes, at: int = 0) -> tuple[AudioInput, int]:
    """Return the record that begins at byte ``at``, and the offset of the next one.

    Raises:
        TornRecord: if the bytes there are not a complete record.
    """
    start = at + HEADER_BYTES
    if len(data) < start:
        raise TornRecord(f"{len(data) - at} bytes at {at}, expected at least {HEADER_BYTES}")
    magic, kind, offset, frames, length = _FACTS.unpack_from(data, at)
    pcm = data[start : start + length]
    if magic != MAGIC or len(pcm) != length:
        raise TornRecord(f"no whole record at byte {at}")
    (checksum,) = _CHECKSUM.unpack_from(data, at + _FACTS.size)
    if checksum != zlib.crc32(pcm, zlib.crc32(data[at : at + _FACTS.size])):
        raise TornRecord(f"the record at byte {at} does not match its checksum")
    if kind == Kind.AUDIO:
        return AudioRecord(offset, pcm, frames), start + length
    if kind == Kind.GAP and not length:
        return GapRecord(offset, frames), start
    raise TornRecord(f"the record at byte {at} is of the unknown kind {kind}")
