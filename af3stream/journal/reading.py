"""Read a session's audio from disk, and distinguish complete records, a torn tail, and lost data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import DataLoss
from af3stream.journal.codecs import unsealed
from af3stream.journal.errors import TornRecord
from af3stream.journal.records import AudioInput, AudioRecord, GapRecord, decode
from af3stream.journal.segments import Mark, Raw, SealedFile

BLOCK_S = 1  # seconds of a sealed segment in one record

AudioFile = Raw | SealedFile
Piece = SealedFile | list[AudioInput]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The audio of a session in order, from frame 0 on.

    Attributes:
        mark: the acknowledged offset, as far as it is known.
        end: the first missing frame; at least the mark.
        pieces: sealed segments, and the records of raw files.
        raw: the raw files with audio below the mark, each with its end in frames.
        tail: the records above the mark.
        next_number: number of the next file.
    """

    mark: int
    end: int
    pieces: tuple[Piece, ...]
    raw: tuple[tuple[Raw, int], ...]
    tail: tuple[AudioInput, ...]
    next_number: int


def scan(data: bytes, first: int) -> list[AudioInput]:
    """Return the consecutive records from frame ``first`` on, up to the first incomplete one."""
    records: list[AudioInput] = []
    at, end = 0, first
    while at < len(data):
        try:
            record, at = decode(data, at)
        except TornRecord:
            break
        if record.offset != end:
            break
        records.append(record)
        end = record.end
    return records


def read_timeline(folder: Path, acknowledged: int, files: Callable[[], Sequence[AudioFile]]) -> Timeline:
    """Read the audio of a session, without changing anything. Sealed segments are opened only when consumed.

    The session may be written at the same time. So the mark is read before the files: nothing that was acknowledged
    before the call is missed.

    Args:
        folder: with the mark.
        acknowledged: the number of frames that are known to be durable.
        files: returns the files at the time of the call, in order; without raw files that are sealed.

    Raises:
        DataLoss: if acknowledged audio is damaged or missing in the raw files.
    """
    mark = max(acknowledged, Mark.read(folder))
    while True:
        try:
            return _joined(files(), mark)
        except FileNotFoundError:  # sealed or replaced since it was listed
            continue


def _joined(files: Sequence[AudioFile], mark: int) -> Timeline:
    """Join the files to one timeline: each one ends where the next begins."""
    pieces: list[Piece] = []
    raw: list[tuple[Raw, int]] = []
    end = 0
    for index, file in enumerate(files):
        if file.first != end:  # the previous file is missing
            raise DataLoss("frames", *sorted((end, file.first)))
        if isinstance(file, SealedFile):
            pieces.append(file)
            end = file.end
            continue
        records = scan(file.path.read_bytes(), end)
        if index + 1 < len(files):
            limit = files[index + 1].first
            records = [record for record in records if record.end <= limit]
            if limit > (records[-1].end if records else end):
                raise DataLoss("frames", records[-1].end if records else end, limit)
        end = records[-1].end if records else end
        pieces.append(records)
        raw.append((file, end))
    if end < mark:
        raise DataLoss("frames", end, mark)
    last = pieces[-1] if pieces else []
    mark = max(mark, end if isinstance(last, SealedFile) else files[-1].first if files else 0)
    tail = () if isinstance(last, SealedFile) else tuple(record for record in last if record.offset >= mark)
    closed = tuple((file, min(reached, mark)) for file, reached in raw)
    return Timeline(mark, end, tuple(pieces), closed, tail, files[-1].number + 1 if files else 1)


def hear(pieces: Iterable[Piece], audio_format: AudioFormat, *, start: int, end: int) -> Iterator[AudioInput]:
    """Yield the records that overlap the range from ``start`` to ``end``, in order; the first may begin earlier.

    Raises:
        DataLoss: at a sealed segment that is damaged or missing, before any of it is yielded.
    """
    for piece in pieces:
        if isinstance(piece, SealedFile):
            if piece.end <= start:
                continue
            records: Iterable[AudioInput] = _sealed_records(piece, audio_format)
        else:
            records = piece
        yield from (record for record in records if start < record.end <= end)


def _sealed_records(file: SealedFile, audio_format: AudioFormat) -> Iterator[AudioInput]:
    """Yield a sealed segment as records of at most one second, with its gaps."""
    segment, pcm = file.segment, unsealed(file, audio_format)
    size, at, offset = audio_format.bytes_per_frame, 0, segment.first
    for frames, is_gap in msgspec.json.decode(segment.parts, type=list[tuple[int, bool]]):
        if is_gap:
            yield GapRecord(offset, frames)
        for begin in range(0, 0 if is_gap else frames, audio_format.rate * BLOCK_S):
            block = min(frames - begin, audio_format.rate * BLOCK_S)
            yield AudioRecord(offset + begin, pcm[at : at + block * size], block)
            at += block * size
        offset += frames
