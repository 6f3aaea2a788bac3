"""Find a checkpoint by name: the embedded ``mini``, a folder in the transformers layout, or a hub id."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from af3stream.errors import ModelError, quoted
from af3stream.models import card, mini
from af3stream.models.card import PLAIN, Frames, Notes, Wording
from af3stream.models.manifest import Progress

MINI = "mini"
AF3 = "nvidia/audio-flamingo-3-hf"
MODEL_TYPE = "audioflamingo3"
NVIDIA = "NVIDIA OneWay Noncommercial License (research and other non-commercial use only)"

LICENCES = {
    MINI: mini.LICENCE,
    AF3: NVIDIA,
    "nvidia/audio-flamingo-next-hf": NVIDIA,
    "nvidia/music-flamingo-2601-hf": NVIDIA,
}
KNOWN = {MINI: "the built-in model", AF3: "8B parameters, for a GPU"}  # the names that the service offers

FILES = ["*.json", "*.jinja", "*.txt", "*.safetensors"]
NOT_FILES = ["think/*"]  # an adapter the service does not use
ETAG_TIMEOUT_S = 5.0
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this disk, checked.

    Attributes:
        name: the name that the service shows.
        folder: the transformers layout.
        captioner: the folder of a faster-whisper checkpoint; ``None``: AF3 makes the captions.
        notes: which captions the prompt holds beside the audio.
        frames: which windows the prompt holds as audio.
        wording: the text around a question.
        licence: the licence, if it is known.
        sounds: the least confidence with which it may name a sound; ``None``: it has not learned to.
    """

    name: str
    folder: Path
    captioner: Path | None = None
    notes: Notes = "forgotten"
    frames: Frames = "all"
    wording: Wording = PLAIN
    licence: str | None = None
    sounds: float | None = None


def resolve(name: str, progress: Progress | None = None) -> Checkpoint:
    """Find a checkpoint; assemble or download what is not on this disk yet.

    Args:
        name: ``mini``, a folder, or a hub id ``organisation/name``. A folder takes precedence over a hub id.
        progress: called with a sentence for each step.

    Raises:
        ModelError: if the name is unknown, the folder is incomplete, or a part cannot be downloaded.
    """
    tell = progress or _silent
    if name == MINI:
        return check(mini.assemble(tell))
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return check(folder)
    if HUB_ID.fullmatch(name):
        return _from_hub(name, tell)
    raise ModelError(f"there is no model {quoted(name)}: it is no folder and no hub id{_nearest(name)}")


def check(folder: Path, name: str | None = None) -> Checkpoint:
    """Check a folder: its card, if it has one, and every file that the service needs. No weights are loaded.

    Args:
        folder: the transformers layout, or the folder of an ``af3stream.json`` that names it.
        name: the name of a checkpoint without a card; by default that of the folder.

    Raises:
        ModelError: if a file is missing or invalid; the message names the first one.
    """
    about = card.read(folder) or card.Card(name or folder.resolve().name, licence=LICENCES.get(name or ""))
    model = folder / about.model
    captioner = folder / about.captioner if about.captioner else None
    _check_config(model)
    _check_weights(model)
    if not (model / "tokenizer.json").is_file():
        raise ModelError(f"{model} has no tokenizer.json")
    if not any((model / file).is_file() for file in ("processor_config.json", "preprocessor_config.json")):
        raise ModelError(f"{model} has neither processor_config.json nor preprocessor_config.json")
    if captioner and not (captioner / "model.bin").is_file():
        raise ModelError(f"the captioner {captioner} has no model.bin, so it is no faster-whisper checkpoint")
    return Checkpoint(
        about.name,
        model,
        captioner,
        about.notes,
        about.frames,
        about.wording,
        about.licence,
        about.sounds,
    )


def _check_config(folder: Path) -> None:
    config = _read_json(folder / "config.json")
    if (found := config.get("model_type")) != MODEL_TYPE:
        raise ModelError(f"{folder} holds a model of type {quoted(found)}, and the service runs {quoted(MODEL_TYPE)}")


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    shards = {"model.safetensors"}
    if index.is_file():
        shards = set(_read_json(index).get("weight_map", {}).values())
    if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
        raise ModelError(f"{folder} has no weights: {missing[0]} is missing")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"{path.parent} has no {path.name}, so it is no checkpoint in the transformers layout"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object")
    return content


def _from_hub(name: str, tell: Progress) -> Checkpoint:
    """Use the local cache if it holds a complete snapshot; otherwise download it from the hub."""
    if cached := _cached(name):
        return cached
    tell(f"asking the hub for {name}; its licence: {LICENCES.get(name, 'see its page')}")
    _check_config(_download(name, allow_patterns=["config.json"]))
    return check(_download(name, allow_patterns=FILES, ignore_patterns=NOT_FILES), name)


def _cached(name: str) -> Checkpoint | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return check(Path(snapshot_download(name, local_files_only=True)), name)
    except (LocalEntryNotFoundError, ModelError):
        return None


def _download(name: str, **patterns: list[str]) -> Path:
    """Download one snapshot. Every failure of the hub becomes a ModelError of one sentence."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    licence = f"; its licence: {LICENCES[name]}" if name in LICENCES else ""
    try:
        return Path(snapshot_download(name, etag_timeout=ETAG_TIMEOUT_S, **patterns))
    except GatedRepoError:
        raise ModelError(
            f"{name} asks for its terms to be accepted on https://huggingface.co/{name}, and then for a token from "
            f"`hf auth login`{licence}"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"the hub has no public model {quoted(name)}{_nearest(name)}{licence}") from None
    except HfHubHTTPError as error:
        raise ModelError(f"the hub refused {name}: {error}{licence}") from error
    except (LocalEntryNotFoundError, HTTPError, OSError) as error:
        raise ModelError(
            f"{name} is not on this disk, and the hub cannot be reached{_nearest(name)}{licence}"
        ) from error


def _nearest(name: str) -> str:
    """Return a hint with the nearest known name, or with all of them and their licences; empty for a known name."""
    if name in LICENCES:
        return ""
    close = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.5)
    offered = "; ".join(f"{known} ({LICENCES[known]})" for known in close or KNOWN)
    return f"; did you mean {offered}?" if close else f"; known: {offered}"


def _silent(_: str) -> None:
    """Ignore progress."""
