"""Closed segments become FLAC: a step at a time, while nothing waits to be committed."""

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

AGAIN_AFTER_S: Final = 60.0  # a disk that refused is left alone so long


@dataclass(frozen=True, slots=True)
class Closed:
    """A raw file that is complete, up to the frame ``end``."""

    session: str
    audio_format: AudioFormat
    raw: Raw
    end: int


class Sealer:
    """Seals what is closed, in order. The raw file goes when its seal was decoded, compared, and is on disk."""

    def __init__(self, catalog: Catalog, space: disk.Space) -> None:
        self._catalog = catalog
        self._space = space
        self._closed: deque[Closed] = deque()
        self._running: Generator[None, None, None] | None = None
        self._not_before = float("-inf")

    def add(self, closed: Closed) -> None:
        """Seal this when there is time."""
        self._closed.append(closed)

    def drop(self, session: str) -> None:
        """Forget a session's segments."""
        if self._running and self._closed[0].session == session:
            self.close()
        self._closed = deque(closed for closed in self._closed if closed.session != session)

    def close(self) -> None:
        """Leave off what is being sealed, with no file open: it stays raw, until it is begun again."""
        if self._running:
            self._running.close()
            self._running = None

    def step(self, now: float) -> bool:
        """Do a few milliseconds of work; returns whether there may be more.

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
        """One segment, from raw to sealed; a segment that does not pass stays raw."""
        folder, raw, audio_format = closed.raw.path.parent, closed.raw, closed.audio_format
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
            log.error("a segment does not pass and stays raw: session=%s segment=%d", closed.session, raw.number)
            disk.remove(staged)
            return
        point("seal-verified")
        disk.reveal(staged, folder / sealed.name)
        point("seal-revealed")
        self._catalog.add_segment(closed.session, sealed)
        point("seal-recorded")
        disk.remove(raw.path)
        self._space.used += len(encoded) - len(data)
        point("raw-removed")


def _gives_back(path: Path, sealed: Sealed, audio_format: AudioFormat, pcm: bytes) -> Generator[None, None, bool]:
    """Whether a sealed file, read again, decodes to the same bytes; with a pause after each second of audio."""
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
    """Whether every record holds as many bytes as its frames take."""
    size = audio_format.bytes_per_frame
    return all(len(record.pcm) == record.frames * size for record in records if isinstance(record, AudioRecord))


def _parts(records: list[AudioInput]) -> bytes:
    """What follows what: ``[[frames, is_gap], ...]``, records of a kind joined."""
    parts: list[tuple[int, bool]] = []
    for record in records:
        is_gap = not isinstance(record, AudioRecord)
        if parts and parts[-1][1] == is_gap:
            parts[-1] = (parts[-1][0] + record.frames, is_gap)
        else:
            parts.append((record.frames, is_gap))
    return msgspec.json.encode(parts)
