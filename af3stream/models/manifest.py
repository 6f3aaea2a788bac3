"""Folders that are complete or absent: built once, among any number of processes, and described by a manifest."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from af3stream.errors import ModelError

MANIFEST = "manifest.json"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class File:
    """One file of a folder.

    Attributes:
        path: relative to the folder, with forward slashes.
        size: in bytes.
        sha256: lower-case hex digits.
    """

    path: str
    size: int
    sha256: str


def sha256(path: Path) -> str:
    """The file's SHA-256 in lower-case hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require(path: Path, expected: str) -> None:
    """Refuse a file that is not the expected one.

    Raises:
        ModelError: if its SHA-256 is another.
    """
    if (found := sha256(path)) != expected:
        raise ModelError(f"{path.name} has the wrong content: found sha256 {found}, expected {expected}")


def describe(folder: Path) -> list[File]:
    """Every file below ``folder``, sorted by path, except its manifest and what is hidden."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        File(path.as_posix(), (folder / path).stat().st_size, sha256(folder / path))
        for path in paths
        if path.as_posix() != MANIFEST and not any(part.startswith(".") for part in path.parts)
    ]


def problem(folder: Path, *, hashes: bool = False) -> str | None:
    """What is wrong with a folder that has a manifest, in a few words, or ``None``.

    Args:
        folder: where the manifest lies.
        hashes: read every file and compare its SHA-256, instead of its size alone.
    """
    try:
        files = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=list[File])
    except FileNotFoundError:
        return "it has no manifest"
    except (OSError, msgspec.DecodeError):
        return "its manifest cannot be read"
    for file in files:
        path = folder / file.path
        if not path.is_file():
            return f"{file.path} is missing"
        if (size := path.stat().st_size) != file.size:
            return f"{file.path} has {size} bytes instead of {file.size}"
        if hashes and sha256(path) != file.sha256:
            return f"{file.path} has the wrong content"
    return None


def build_once(target: Path, build: Callable[[Path], None], progress: Progress, *, hashes: bool = False) -> Path:
    """Return ``target``, building it first where it is missing or damaged.

    ``build`` fills an empty folder beside the target; the manifest is written last, and the folder then takes the
    target's name in one step. A build that dies leaves nothing that is mistaken for a result, and the next call starts
    anew. Processes that want the same target wait for the one that builds it.

    Args:
        target: the folder.
        build: fills the empty folder it is given.
        progress: told when another process is waited for.
        hashes: as for ``problem``.

    Raises:
        ModelError: if the folder cannot be written, and whatever ``build`` raises.
    """
    if problem(target, hashes=hashes) is None:
        return target
    partial = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock"), progress):
            if problem(target, hashes=hashes) is None:
                return target
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            build(partial)
            (partial / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(describe(partial)), indent=1))
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
    except OSError as error:
        raise ModelError(f"cannot write {target}: {error.strerror or error}") from error
    return target


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock; the system releases it should the process die."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"another process is writing {path.stem}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
