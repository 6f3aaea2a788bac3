"""Continue a session of a shared journal in the files of a new fence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from af3stream.errors import NoSession
from af3stream.journal import disk, owner_files
from af3stream.journal.catalog import Catalog, TakenAudio
from af3stream.journal.ownership import Leases, fence_folder
from af3stream.journal.records import encode
from af3stream.journal.segments import raw_path, session_folder

log = logging.getLogger(__name__)


def take_over(
    journal: Path, catalog: Catalog, leases: Leases, session: str, *, after: int | None = None, **changes: Any
) -> int | None:
    """Claim the next lease of a session, and continue in a folder of its own. Return the fence.

    The events are copied, and so is the last file of audio if it is raw: its earlier owner may still write it, or cut
    off what was not acknowledged. All files before it are complete, so the new facts only refer to them.

    Args:
        journal: the folder of the journal.
        after: take the session only if no newer lease exists than this one; else return ``None``.
        changes: of the facts.

    Raises:
        NoSession: if the session does not exist.
        DataLoss: if acknowledged data is damaged or missing.
        Superseded: if another server has taken the session meanwhile.
        OSError, StorageError: if the disk fails.
    """
    fence = leases.claim(session, after)
    if fence is None:
        return None
    row = catalog.row(session)  # all that is read is read after the claim
    if row is None:
        raise NoSession("there is no such session")
    events = owner_files.events(row)  # before the audio: an event implies its audio
    audio = owner_files.timeline(row, events.durable)
    folder = fence_folder(session_folder(journal, session), fence)
    disk.make_folder(folder)
    last = audio.next_number - 1
    if audio.pieces and isinstance(records := audio.pieces[-1], list):
        if records:
            path = raw_path(folder, last, records[0].offset)
            disk.stage(path, b"".join(map(encode, records))).replace(path)
        last -= 1
    catalog.take_over(row, fence, TakenAudio(last, audio.end), events, **changes)
    log.info("a session is taken over: session=%s fence=%d", session, fence)
    return fence
