"""Create, replace, lock and remove files so that they survive a power cut. Files are private to their owner."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from errno import ENOENT, ENOTEMPTY
from pathlib import Path

from filelock import FileLock, Timeout

FILE_MODE, FOLDER_MODE = 0o600, 0o700
STAGED = ".staged"

sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def make_folder(path: Path) -> None:
    """Create a folder if it does not exist, and make its name durable. Another process may create it meanwhile."""
    if not path.is_dir():
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync_folder(path.parent)


def create(path: Path) -> int:
    """Create a file for appending, with a durable name, and return its descriptor."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
    try:
        sync_folder(path.parent)
    except OSError:
        os.close(file)
        with suppress(OSError):
            path.unlink()
        raise
    return file


def write_all(file: int, data: bytes) -> None:
    """Write all bytes, in as many calls as needed."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def stage(path: Path, data: bytes) -> Path:
    """Write and sync a temporary file beside ``path``, and return its path."""
    staged = path.with_name(path.name + STAGED)
    file = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        write_all(file, data)
        os.fsync(file)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    return staged


def reveal(staged: Path, path: Path) -> None:
    """Rename a staged file to its final name, durably."""
    staged.replace(path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file, durably."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder and its files, durably, also while another process removes or creates some of them."""
    while path.exists():
        try:
            shutil.rmtree(path)
            sync_folder(path.parent)
        except OSError as error:
            if error.errno not in (ENOENT, ENOTEMPTY):
                raise


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def lock(path: Path, wait_s: float = 0.0) -> FileLock | None:
    """Take a lock that lasts until it is released or the process ends. Return ``None`` if another process holds it."""
    taken = FileLock(path, timeout=wait_s, mode=FILE_MODE, thread_local=False)
    try:
        taken.acquire()
    except Timeout:
        return None
    return taken


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder and its subfolders. Files that vanish meanwhile count as 0."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size  # noqa: PTH116, PTH118 (thousands of files)
            except FileNotFoundError:
                continue
    return total


class Space:
    """Track how much more may be written.

    Attributes:
        used: bytes of the folder, as last measured, plus the bytes written since then.
    """

    def __init__(self, folder: Path, *, quota_mb: int, reserve_mb: int) -> None:
        self.folder = folder
        self.quota, self.reserve = quota_mb << 20, reserve_mb << 20
        self.used = 0

    def measure(self) -> int:
        """Measure the bytes of the folder again, and return them."""
        self.used = size_of(self.folder)
        return self.used

    def holds(self, size: int) -> bool:
        """Return whether ``size`` more bytes fit the quota and leave the reserve free."""
        disk = os.statvfs(self.folder)
        return self.used + size <= self.quota and disk.f_bavail * disk.f_frsize - size >= self.reserve
