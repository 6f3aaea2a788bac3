"""Read and write ``facts.json`` of a session. The file is small, and is replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from af3stream.audio.pcm import AudioFormat, Encoding
from af3stream.errors import ConfigError
from af3stream.journal import disk
from af3stream.journal.errors import DamagedFacts
from af3stream.journal.facts import SessionFacts

FACTS: Final = "facts.json"
VERSION: Final = 2


class FactsFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file. Times are unix seconds, ``durable`` is a number of frames, bytes are in base64.

    Attributes:
        events, log_bytes: number of events in the log, and its size, when the session was last closed.
        lower: in a shared journal, where the audio of lower fences is: each fence, and the number of its last raw file
            or segment that counts. The event log of a fence holds the events of all lower fences, too.
        live: in a shared journal, whether the owner has the session open.
        engine: name of the engine that serves the session, or empty.
    """

    version: int = VERSION
    user: str
    format: Encoding
    rate: int
    channels: int
    start: bytes
    created_at: float
    model: str
    touched_at: float
    finished_at: float | None = None
    durable: int = 0
    events: int = 0
    log_bytes: int = 0
    token_hash: bytes | None = None
    token_expires_at: float = 0.0
    token_before: bytes | None = None
    lower: tuple[tuple[int, int], ...] = ()
    live: bool = False
    engine: str = ""

    @classmethod
    def of(cls, facts: SessionFacts, **state: Any) -> FactsFile:
        """Return the file content for a session; ``state`` overrides the defaults of a new session."""
        sound = facts.format
        return cls(
            user=facts.user,
            format=sound.format,
            rate=sound.rate,
            channels=sound.channels,
            start=facts.start,
            created_at=facts.created_at,
            model=facts.model,
            **({"touched_at": facts.created_at} | state),
        )

    def session_facts(self, session: str) -> SessionFacts:
        """Return the facts of the session."""
        sound = AudioFormat(self.format, self.rate, self.channels)
        return SessionFacts(session, self.user, sound, self.start, self.created_at, self.model)

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """The hashes of the tokens that resume the session."""
        return tuple(token for token in (self.token_hash, self.token_before) if token is not None)


class Signature(NamedTuple):
    """Identify one state of a file."""

    inode: int
    size: int
    changed_ns: int


def signature(path: Path) -> Signature | None:
    """Return the signature of a file, or ``None`` if it does not exist."""
    try:
        found = os.stat(path)  # noqa: PTH116 (thousands of files)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Signature(found.st_ino, found.st_size, found.st_mtime_ns)


def read_facts(path: Path) -> FactsFile:
    """Read a session's facts.

    Raises:
        ConfigError: if the file was written by another version of the program.
        DamagedFacts: if the file is damaged.
        OSError: if the disk fails.
    """
    data = path.read_bytes()
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != VERSION:
            raise ConfigError(f"the session file {path} has version {version}, expected {VERSION}")
        return msgspec.json.decode(data, type=FactsFile)
    except msgspec.MsgspecError as error:
        raise DamagedFacts(f"{path}: {error}") from None


def write_facts(path: Path, file: FactsFile) -> Signature:
    """Replace a session's facts, durably, and return the signature of the new file.

    Raises:
        OSError: if the disk fails; the file is then the old or the new one.
    """
    staged = disk.stage(path, msgspec.json.encode(file))
    found = signature(staged)
    disk.reveal(staged, path)
    assert found
    return found


class _Versioned(msgspec.Struct):
    version: int
