"""Read the files of a session's owner, and those of lower fences that count: its events, and its audio."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from af3stream.journal import commit_log
from af3stream.journal.commit_log import LogContent
from af3stream.journal.errors import storage_failed
from af3stream.journal.facts import Row
from af3stream.journal.reading import AudioFile, Timeline, read_timeline
from af3stream.journal.segments import Sealed, SealedFile, raw_files

EVENTS: Final = "events.log"
SEGMENTS: Final = "segments.log"


def events(row: Row, least: int = 0) -> LogContent:
    """Return the content of the event log.

    Args:
        least: how many events are known to be durable.

    Raises:
        DataLoss: if an event is missing or damaged.
        StorageError: if the disk fails.
    """
    try:
        return commit_log.read(row.folder, EVENTS, least_bytes=row.log_bytes, least_items=max(row.log_events, least))
    except OSError as error:
        raise storage_failed(error) from error


def timeline(row: Row, acknowledged: int = 0) -> Timeline:
    """Read the audio. See `read_timeline`.

    Args:
        acknowledged: a number of frames that are known to be durable, beside what the row says.

    Raises:
        DataLoss: if acknowledged audio is damaged or missing.
        OSError, StorageError: if the disk fails.
    """
    return read_timeline(row.folder, max(row.durable, acknowledged), partial(audio_files, row))


def audio_files(row: Row) -> list[AudioFile]:
    """Return the files with audio, in order.

    Raw files are listed before the sealed segments are, so none is missed that is sealed meanwhile.

    Raises:
        DataLoss: if the log of sealed segments is damaged.
        StorageError: if the disk fails.
    """
    parts = row.parts
    raw = [file for folder, last in parts for file in raw_files(folder) if last is None or file.number <= last]
    sealed = {
        segment.number: SealedFile(folder, segment)
        for folder, last in parts
        for segment in _segments(folder)
        if last is None or segment.number <= last
    }
    files: list[AudioFile] = [*sealed.values(), *(file for file in raw if file.number not in sealed)]
    return sorted(files, key=lambda file: file.number)


def _segments(folder: Path) -> list[Sealed]:
    """Return the sealed segments in a folder; one that was sealed twice is there twice, the newest last."""
    try:
        items = commit_log.read(folder, SEGMENTS).items
    except OSError as error:
        raise storage_failed(error) from error
    return [msgspec.msgpack.decode(item, type=Sealed) for item in items]
