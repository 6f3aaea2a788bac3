"""Encode closed segments as FLAC in small steps, while no commit is pending."""

from __future__ import annotations

import logging
import zlib
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import StorageError
from af3stream.journal import disk
from af3stream.journal.catalog import Catalog
from af3stream.journal.codecs import codec_of, decode, encode
from af3stream.journal.faults import point
from af3stream.journal.reading import scan
from af3stream.journal.records import AudioInput, AudioRecord
from af3stream.journal.segments import Raw, Sealed

log = logging.getLogger(__name__)

AGAIN_AFTER_S: Final = 60.0  # the delay after a disk error


@dataclass(frozen=True, slots=True)
class Closed:
    """A complete raw file that ends at the frame ``end``. Its sealed file is written to ``folder``."""

    session: str
    folder: Path
    audio_format: AudioFormat
    raw: Raw
    end: int


class Sealer:
    """Seal closed files, in order.

    A raw file is removed after its sealed file was decoded, compared, and is on disk.
    """

    def __init__(self, catalog: Catalog, space: disk.Space) -> None:
        self._catalog = catalog
        self._space = space
        self._closed: deque[Closed] = deque()
        self._running: Generator[None, None, None] | None = None
        self._not_before = float("-inf")

    def add(self, closed: Closed) -> None:
        """Queue a file for sealing."""
        self._closed.append(closed)

    def drop(self, session: str) -> None:
        """Remove the files of a session from the queue."""
        if self._running and self._closed[0].session == session:
            self.close()
        self._closed = deque(closed for closed in self._closed if closed.session != session)

    def close(self) -> None:
        """Interrupt the current file. It stays raw, and is sealed later from its beginning."""
        if self._running:
            self._running.close()
            self._running = None

    def step(self, now: float) -> bool:
        """Do a few milliseconds of work, and return whether there may be more.

        Args:
            now: monotonic seconds.
        """
        if not self._closed or now < self._not_before:
            return False
        if self._running is None:
            self._running = self._seal(self._closed[0])
        try:
            next(self._running)
        except StopIteration:
            self._running = None
            self._closed.popleft()
        except (OSError, StorageError) as error:
            self._running = None
            if self._closed[0].raw.path.exists():
                log.warning("a segment is not sealed yet: session=%s error=%s", self._closed[0].session, error)
                self._not_before = now + AGAIN_AFTER_S
            else:  # deleted by another process
                self._closed.popleft()
        except Exception:
            log.exception("a segment cannot be sealed, and stays raw: session=%s", self._closed[0].session)
            self._running = None
            self._closed.popleft()
        return True

    def _seal(self, closed: Closed) -> Generator[None, None, None]:
        """Seal one segment. If the check fails, it stays raw."""
        folder, raw, audio_format = closed.folder, closed.raw, closed.audio_format
        if closed.end == raw.first:
            disk.remove(raw.path)
            return
        try:
            data = raw.path.read_bytes()
        except FileNotFoundError:  # sealed already, or deleted by another process
            return
        records = [record for record in scan(data, raw.first) if record.end <= closed.end]
        pcm = b"".join(record.pcm for record in records if isinstance(record, AudioRecord))
        whole = bool(records) and records[-1].end == closed.end and _aligned(records, audio_format)
        yield
        codec = codec_of(audio_format, pcm)
        encoded = yield from encode(codec, pcm, audio_format)
        point("seal-encoded")
        sealed = Sealed(raw.number, raw.first, closed.end, codec, _parts(records), zlib.crc32(pcm))
        staged = disk.stage(folder / sealed.name, encoded)
        point("seal-staged")
        if not (whole and (yield from _gives_back(staged, sealed, audio_format, pcm))):
            log.error(
                "a sealed segment fails its check, and stays raw: session=%s segment=%d", closed.session, raw.number
            )
            disk.remove(staged)
            return
        point("seal-verified")
        disk.reveal(staged, folder / sealed.name)
        point("seal-revealed")
        self._catalog.add_segment(closed.session, folder, sealed)
        point("seal-recorded")
        disk.remove(raw.path)
        self._space.used += len(encoded) - len(data)
        point("raw-removed")


def _gives_back(path: Path, sealed: Sealed, audio_format: AudioFormat, pcm: bytes) -> Generator[None, None, bool]:
    """Check that a sealed file decodes to the same bytes; yield after each second of audio."""
    at = 0
    try:
        for block in decode(sealed.codec, path.read_bytes(), audio_format):
            if block != pcm[at : at + len(block)]:
                return False
            at += len(block)
            yield
    except ValueError:
        return False
    return at == len(pcm)


def _aligned(records: list[AudioInput], audio_format: AudioFormat) -> bool:
    """Return whether every record has as many bytes as its frames need."""
    size = audio_format.bytes_per_frame
    return all(len(record.pcm) == record.frames * size for record in records if isinstance(record, AudioRecord))


def _parts(records: list[AudioInput]) -> bytes:
    """Return ``[[frames, is_gap], ...]`` in order; adjacent records of one kind are joined."""
    parts: list[tuple[int, bool]] = []
    for record in records:
        is_gap = not isinstance(record, AudioRecord)
        if parts and parts[-1][1] == is_gap:
            parts[-1] = (parts[-1][0] + record.frames, is_gap)
        else:
            parts.append((record.frames, is_gap))
    return msgspec.json.encode(parts)
