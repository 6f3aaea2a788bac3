"""Build folders that are complete or absent, once among several processes, and describe them by a manifest."""

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
        size: bytes.
        sha256: lower-case hex digits.
    """

    path: str
    size: int
    sha256: str


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require(path: Path, expected: str) -> None:
    """Check the SHA-256 of a file.

    Raises:
        ModelError: if it differs from the expected one.
    """
    if (found := sha256(path)) != expected:
        raise ModelError(f"{path.name} has the wrong content: found sha256 {found}, expected {expected}")


def describe(folder: Path) -> list[File]:
    """Return every file below ``folder``, sorted by path, except the manifest and hidden files."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        File(path.as_posix(), (folder / path).stat().st_size, sha256(folder / path))
        for path in paths
        if path.as_posix() != MANIFEST and not any(part.startswith(".") for part in path.parts)
    ]


def problem(folder: Path, *, hashes: bool = False) -> str | None:
    """Return what is wrong with a folder, in a few words; ``None`` if it matches its manifest.

    Args:
        folder: the folder with the manifest.
        hashes: compare the SHA-256 of every file, and not only the size.
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
    """Return ``target``; build it first if it is missing or damaged.

    ``build`` fills an empty temporary folder. The manifest is written last, and then the folder is renamed to the
    target. So an interrupted build never looks complete, and the next call starts again. Other processes wait for a
    build in progress.

    Args:
        target: the folder.
        build: fills the empty folder that it is given.
        progress: called with a sentence if another process is building.
        hashes: as in ``problem``.

    Raises:
        ModelError: if the folder cannot be written. Errors of ``build`` are raised too.
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
    """Hold the lock within the context. The system releases it if the process ends."""
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
