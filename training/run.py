"""The stages of a run. Each starts from the files of the previous one in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from training import corpus, model, people, sounds
from training.config import Config
from training.listen import LISTENED, Listener
from training.read import READ, Reader


def speak(folder: Path, config: Config) -> dict[str, Any]:
    """Build validation and training clips: synthetic speech, people and sounds."""
    sounds.build(folder / "validation", config.corpus.takes // 10 + 1, seed=config.seed + 900)
    sounds.build(folder / "corpus", config.corpus.takes, seed=config.seed)
    corpus.build(folder / "validation", 1, config.corpus.validation, seed=config.seed, held_out=True)
    corpus.build(folder / "corpus", config.corpus.shards, config.corpus.clips, seed=config.seed)
    people.build(folder, config)
    return {
        "clips": config.corpus.shards * config.corpus.clips,
        "people": config.corpus.people,
        "takes": config.corpus.takes,
    }


def listen(folder: Path, config: Config) -> dict[str, Any]:
    """Run the alignment stage, which writes encoder and projector to ``listened.safetensors``."""
    torch.set_num_threads(config.threads)
    listener = Listener(*model.load(Path(config.start), folder), folder, config)
    listener.run()
    return {"words_wrong": listener.wrong, "seconds": listener.seconds}


def read(folder: Path, config: Config) -> dict[str, Any]:
    """Run the reading stage, which writes its adapters to ``read.pt``."""
    torch.set_num_threads(config.threads)
    mini, processor = model.load(Path(config.start), folder)
    listened = {name: value.float() for name, value in load_file(folder / LISTENED).items()}
    mini.model.load_state_dict(listened, strict=False)
    reader = Reader(mini, processor, folder, config)
    reader.run()
    return {"right": reader.right, "seconds": reader.seconds}


def export(folder: Path, config: Config) -> dict[str, Any]:
    """Write the results of both stages and the encoder to ``trained.safetensors``."""
    encoder = [name for name in load_file(config.start) if name.startswith("audio_tower.")]
    listened = load_file(folder / LISTENED)
    parts = {name: value for name, value in listened.items() if name in encoder or name.startswith(model.PROJECTOR)}
    if (folder / READ).exists():
        parts |= torch.load(folder / READ, weights_only=False)["average"]
    path = folder / "trained.safetensors"
    model.save(path, parts)
    return {"sha256": model.digest(path), "bytes": path.stat().st_size}


def assemble(folder: Path, _config: Config) -> dict[str, Any]:
    """Assemble the exported parts as a checkpoint folder that the service can run."""
    model.assemble(folder / "trained.safetensors", folder / "mini")
    return {"folder": str(folder / "mini")}


def falling(folder: Path, stage: str) -> bool:
    """Return whether a stage's loss fell from its first third to its last."""
    lines = [json.loads(line) for line in (folder / f"{stage}.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    third = len(losses) // 3
    return third > 0 and sum(losses[-third:]) < sum(losses[:third])


STAGES = {"corpus": speak, "listen": listen, "read": read, "export": export, "assemble": assemble}
