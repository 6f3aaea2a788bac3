"""The stages of a run, each from what the one before left in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from training import captioned, corpus, model, people, sounds
from training.config import Config
from training.listen import Listener, unscale
from training.read import Reader

UNIT = 16.0  # linear_2 of an earlier training is this much smaller than in training


def speak(folder: Path, config: Config) -> dict[str, Any]:
    """Texts to speech, people, and sounds: validation, then training."""
    corpus.build(folder / "validation", 1, config.corpus.validation, seed=config.seed, held_out=True)
    people.build(folder, config)
    corpus.build(folder / "corpus", config.corpus.shards, config.corpus.clips, seed=config.seed)
    sounds.build(folder / "validation", config.corpus.takes // 10 + 1, seed=config.seed + 900)
    sounds.build(folder / "corpus", config.corpus.takes, seed=config.seed)
    captioned.build(folder / "validation", config)
    captioned.build(folder / "corpus", config)
    return {
        "clips": config.corpus.shards * config.corpus.clips,
        "people": config.corpus.people,
        "takes": config.corpus.takes,
    }


def listen(folder: Path, config: Config) -> dict[str, Any]:
    """The alignment stage; leaves its ears in ``listened.safetensors``."""
    torch.set_num_threads(config.threads)
    mini, processor = model.public(config.listen.layers)
    if config.start:
        model.lay_over(mini, Path(config.start))
        unscale(mini, UNIT)
    listener = Listener(mini, processor, folder, config, afresh=not config.start)
    listener.run()
    return {"words_wrong": listener.wrong, "seconds": listener.seconds}


def read(folder: Path, config: Config) -> dict[str, Any]:
    """The reading stage; leaves its adapters, and the upper ears, in ``read.pt``."""
    torch.set_num_threads(config.threads)
    mini, processor = model.public(config.listen.layers)
    model.adapt(mini.model.language_model)
    if config.start:
        model.lay_over(mini, Path(config.start), ".lora_")
    reader = Reader(mini, processor, folder, config)
    reader.run()
    return {"right": reader.right, "seconds": reader.seconds}


def export(folder: Path, config: Config) -> dict[str, Any]:
    """What both stages left last, finished or not, as ``trained.safetensors``.

    Between what a run starts from and what it learns, weights do better than at either end, as in model soups
    (arXiv:2203.05482).
    """
    ears, state = folder / model.LISTENED, torch.load(folder / "read.pt", weights_only=False)
    weights, fitting = load_file(ears), state["listened"] == model.digest(ears)
    weights |= {name: value for name, value in state["average"].items() if fitting or ".lora_" in name}
    if config.start:
        before, kept = load_file(config.start), config.read.kept
        weights = {name: value.float().lerp(before.get(name, value).float(), kept) for name, value in weights.items()}
    path = folder / "trained.safetensors"
    save_file({name: value.to(torch.float16).contiguous() for name, value in weights.items()}, path)
    return {"sha256": model.digest(path), "bytes": path.stat().st_size}


def assemble(folder: Path, _config: Config) -> dict[str, Any]:
    """What was exported, as ``mini``: a folder that the service can run."""
    model.assemble(folder / "trained.safetensors", folder / "mini")
    return {"folder": str(folder / "mini")}


def falling(folder: Path, stage: str) -> bool:
    """Whether a stage's loss fell: on what it is validated by, or else from its first third to its last."""
    lines = [json.loads(line) for line in (folder / f"{stage}.jsonl").read_text(encoding="utf-8").splitlines()]
    if validated := [line["validation"] for line in lines if "validation" in line]:
        return bool(validated[-1] < validated[0])
    losses = [line["loss"] for line in lines if "loss" in line]
    third = len(losses) // 3
    return third > 0 and sum(losses[-third:]) < sum(losses[:third])


STAGES = {"corpus": speak, "listen": listen, "read": read, "export": export, "assemble": assemble}
