"""What the journal's tests share: sessions whose every byte is known, and somebody who is told of commits."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from af3stream.audio.pcm import AudioFormat
from af3stream.config import JournalConfig
from af3stream.journal.facts import Commit, SessionFacts
from af3stream.journal.faults import hooked
from af3stream.journal.journal import Journal
from af3stream.journal.records import AudioInput, AudioRecord, EventRecord, GapRecord, Record
from af3stream.journal.store import Store

SPEECH = AudioFormat("pcm_s16le", 8_000, 1)
BLOCK = 160  # frames of a record: 20 ms
CREATED = 1_700_000_000.0


def facts(session: str = "talk", audio_format: AudioFormat = SPEECH) -> SessionFacts:
    return SessionFacts(session, "ada", audio_format, b'{"type":"start"}', CREATED, "mini")


def config(folder: Path, **changes: Any) -> JournalConfig:
    return JournalConfig(**({"folder": str(folder), "commit_every_ms": 0, "reserve_mb": 0} | changes))


def pcm(start: int, end: int, audio_format: AudioFormat = SPEECH) -> bytes:
    """The bytes of frames `start` to `end`: a tone with a slow swell, the same wherever it is cut."""
    t = np.arange(start, end)[:, None] + np.arange(audio_format.channels)
    wave = 0.4 * np.sin(t * 0.19) * (1 + 0.5 * np.sin(t * 0.0007)) + 1e-3 * ((t * 2_654_435_761 >> 7) % 97)
    if audio_format.format == "pcm_f32le":
        return wave.astype("<f4").tobytes()
    if audio_format.format == "mulaw":
        return (wave * 90 + 128).astype("u1").tobytes()
    return (wave * 30_000).astype("<i2").tobytes()


def audio(start: int, end: int, audio_format: AudioFormat = SPEECH, block: int = BLOCK) -> list[Record]:
    """Records of frames `start` to `end`."""
    return [
        AudioRecord(at, pcm(at, min(at + block, end), audio_format), min(block, end - at))
        for at in range(start, end, block)
    ]


def event(number: int) -> EventRecord:
    return EventRecord(number, b'{"type":"answer","id":"q%d","text":"the answer"}' % number)


def joined(records: Iterable[AudioInput], audio_format: AudioFormat = SPEECH) -> bytes:
    """The bytes of records, zeros for gaps; they must follow one another from 0 on."""
    heard, end = bytearray(), 0
    for record in records:
        assert record.offset == end
        heard += bytes(record.frames * audio_format.bytes_per_frame) if isinstance(record, GapRecord) else record.pcm
        end = record.end
    return bytes(heard)


class Told:
    """Remembers commits; called on any thread."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self._changed = threading.Condition()

    def __call__(self, commit: Commit) -> None:
        with self._changed:
            self.commits.append(commit)
            self._changed.notify_all()

    @property
    def last(self) -> Commit:
        return self.commits[-1]

    def wait(self, condition: Callable[[Commit], bool]) -> Commit:
        """The first commit that is as it should be."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(condition, self.commits)), 60), self.commits[-3:]
            return next(filter(condition, self.commits))

    def durable(self, offset: int, number: int = 0) -> Commit:
        """Wait until so much is durable."""
        return self.wait(lambda commit: commit.durable >= offset and commit.event >= number)


@contextmanager
def disk_of(size_mb: int, folder: Path) -> Iterator[Path]:
    """A tmpfs that is full when it is full."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def running(folder: Path, **changes: Any) -> Iterator[Journal]:
    journal = Journal(config(folder, **changes))
    journal.start()
    try:
        yield journal
    finally:
        journal.stop()


@contextmanager
def opened_store(folder: Path, *sessions: str, **changes: Any) -> Iterator[Store]:
    """A store with new sessions, and no thread: `commit(now)` is called by the test."""
    journal = Journal(config(folder, **changes))
    for session in sessions or ("talk",):
        journal.create(facts(session))
    try:
        yield journal._store
    finally:
        journal.stop()


def record_session(folder: Path, *batches: list[Record], session: str = "talk", **changes: Any) -> Path:
    """A session whose batches were committed one by one, as a killed server leaves it; returns its folder."""
    with running(folder, **changes) as journal:
        journal.create(facts(session))
        for batch in batches:
            told = Told()
            journal.append(session, batch, told)
            assert told.wait(lambda commit: True).error is None
    return folder / "sessions" / session


def reopened(folder: Path, session: str = "talk") -> tuple[int, bytes, list[EventRecord]]:
    """What a server that starts again finds: the durable offset, all bytes, all events."""
    with running(folder) as journal:
        recovered = journal.recover(session)
        return recovered.durable, joined(recovered.audio, recovered.facts.format), recovered.events


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the writer does in its spare time."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def failing(label: str, error: BaseException, times: int = 1) -> Iterator[None]:
    """The first passes of a point fail."""
    left = [times]

    def hook(passed: str) -> None:
        if passed == label and left[0] > 0:
            left[0] -= 1
            raise error

    with hooked(hook):
        yield
