"""Write a session's audio to raw files in its folder, and record how much is acknowledged."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from af3stream.errors import NoSession
from af3stream.journal import disk
from af3stream.journal.faults import point
from af3stream.journal.records import AudioInput, encode

Codec = Literal["flac", "zlib"]

MARK: Final = "mark"
_SESSION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RAW: Final = re.compile(r"(\d+)-(\d+)\.raw")
_ACKNOWLEDGED: Final = struct.Struct("<QI")  # the acknowledged offset, crc32 of its bytes


@dataclass(frozen=True, slots=True)
class Raw:
    """A file of records: the ``number``-th file of its session, from frame ``first`` on."""

    path: Path
    number: int
    first: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed segment, frames ``first`` to ``end``.

    Attributes:
        parts: JSON, ``[[frames, is_gap], ...]`` in order.
        checksum: crc32 of the audio bytes, as the client sent them.
    """

    number: int
    first: int
    end: int
    codec: Codec
    parts: bytes
    checksum: int

    @property
    def name(self) -> str:
        """The name of the file."""
        return f"{self.number:06d}.{self.codec}"


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A sealed segment, and the folder that holds its file."""

    folder: Path
    segment: Sealed

    @property
    def number(self) -> int:
        """The number of the raw file that it replaces."""
        return self.segment.number

    @property
    def first(self) -> int:
        """Its first frame."""
        return self.segment.first

    @property
    def end(self) -> int:
        """The frame after it."""
        return self.segment.end


def session_folder(folder: Path, session: str) -> Path:
    """Return the folder of a session.

    Raises:
        NoSession: if the id is not a valid one of a server.
    """
    if not _SESSION.fullmatch(session):
        raise NoSession("there is no such session")
    return folder / "sessions" / session


def raw_files(folder: Path) -> list[Raw]:
    """Return the raw files of a session, in order."""
    if not folder.is_dir():
        return []
    found = [(path, _RAW.fullmatch(path.name)) for path in folder.iterdir()]
    return sorted((Raw(path, int(m[1]), int(m[2])) for path, m in found if m), key=lambda raw: raw.number)


def raw_path(folder: Path, number: int, first: int) -> Path:
    """Return the path of a raw file."""
    return folder / f"{number:06d}-{first}.raw"


class Mark:
    """A file that records how much of a session's audio, or of a log, is acknowledged. It is not synced."""

    def __init__(self, folder: Path, name: str = MARK) -> None:
        self._file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, disk.FILE_MODE)

    def write(self, frames: int) -> None:
        """Write the mark: frames of audio, or bytes of a log.

        If the disk fails, the older mark stays, which is still valid.
        """
        offset = frames.to_bytes(8, "little")
        with suppress(OSError):
            os.pwrite(self._file, _ACKNOWLEDGED.pack(frames, zlib.crc32(offset)), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    @staticmethod
    def read(folder: Path, name: str = MARK) -> int:
        """Return the acknowledged offset, in frames or bytes; 0 if the file has none."""
        try:
            frames, checksum = _ACKNOWLEDGED.unpack((folder / name).read_bytes())
        except (FileNotFoundError, struct.error):
            return 0
        return int(frames) if checksum == zlib.crc32(frames.to_bytes(8, "little")) else 0


class SegmentLog:
    """Write the audio of one session, file by file.

    After a failure, a file is not written again. It is cut to its durable part, and the rest goes to a new file.

    Attributes:
        durable: the first frame that is not durable.
        closed: complete files, each with its end in frames; the sealer empties the list.
    """

    def __init__(self, folder: Path, durable: int, number: int, segment_frames: int) -> None:
        self.folder = folder
        self.durable = durable
        self.closed: list[tuple[Raw, int]] = []
        self._number = number  # of the next file
        self._segment_frames = segment_frames
        self._raw: Raw | None = None
        self._file = -1
        self._size = 0  # bytes of the file that are durable
        self._written_size = 0
        self._written = durable
        self._mark = Mark(folder)
        self._mark.write(durable)

    def write(self, records: Sequence[AudioInput]) -> int:
        """Write the records that follow ``durable``, and return the number of bytes.

        Raises:
            OSError: if the disk fails; the records then do not count.
        """
        if self._written > self.durable:  # a commit was broken off before its sync
            self._abandon()
        try:
            if self._raw is None:
                self._open()
            data = b"".join(map(encode, records))
            point("audio-write")
            disk.write_all(self._file, data)
        except OSError:
            self._abandon()
            raise
        self._written = records[-1].end
        self._written_size = self._size + len(data)
        return len(data)

    def sync(self) -> None:
        """Sync the written records.

        Raises:
            OSError: if the disk fails; the records then do not count.
        """
        try:
            point("audio-written")
            disk.sync_data(self._file)
            point("audio-synced")
        except OSError:
            self._abandon()
            raise
        self.durable, self._size = self._written, self._written_size
        self._mark.write(self.durable)
        point("mark-written")

    @property
    def full(self) -> bool:
        """Whether the open file holds as much audio as a segment may."""
        return self._raw is not None and self.durable - self._raw.first >= self._segment_frames

    def close_segment(self) -> None:
        """Close the open file; the next record goes to a new one."""
        if self._raw is not None:
            os.close(self._file)
            self.closed.append((self._raw, self.durable))
            self._raw = None
            point("segment-closed")

    def close(self) -> None:
        """Close the log."""
        self.close_segment()
        self._mark.close()

    def _open(self) -> None:
        point("segment-create")
        path = raw_path(self.folder, self._number, self.durable)
        number, self._number = self._number, self._number + 1
        self._file = disk.create(path)
        self._raw, self._size = Raw(path, number, self.durable), 0
        self._written = self.durable
        point("segment-created")

    def _abandon(self) -> None:
        """Cut the file to its durable part, and close it. The removed records were never acknowledged."""
        if self._raw is None:
            return
        with suppress(OSError):
            if self._size:
                os.ftruncate(self._file, self._size)
            else:
                self._raw.path.unlink()
        if self._size:
            self.close_segment()
        else:
            os.close(self._file)
            self._raw = None
