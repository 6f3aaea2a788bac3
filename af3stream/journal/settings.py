"""The journal's settings."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from af3stream.config import Count, Positive, Section


class JournalConfig(Section, frozen=True):
    """Where sessions are kept, for how long, and how much of the disk they may take."""

    folder: str = ""  # empty: nothing is kept
    segment_s: Positive = 60.0  # a raw file is closed after so much audio, and becomes FLAC
    commit_every_ms: Annotated[int, Meta(ge=0)] = 20  # at least this long from one commit's begin to the next
    retention_h: Positive = 24.0 * 7  # a session nobody came for in this time is deleted
    quota_mb: Count = 2_048  # everything in the folder
    reserve_mb: Annotated[int, Meta(ge=0)] = 256  # left free on the disk for others
    waiting_mb: Count = 64  # audio in memory that is not durable yet
