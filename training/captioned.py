"""What Whisper makes of sentences that are hard to understand, so that notes in training are wrong as notes are.

``misheard.jsonl`` holds pairs: what was said, and what was written, where their words differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from af3stream.engine.whisper import NOISE_SCORE
from training import augment, corpus
from training.config import Config
from training.corpus import Clip
from training.people import looping
from training.score import bare, words_wrong
from training.writer import Writer, chunks

FILE: Final = "misheard.jsonl"
EASY: Final = ("people", "piper", "sound")  # voices that are not heard: their texts are Whisper's own, or it hears them
WORST: Final = 0.7  # of the words wrong, above which nobody can know what was said
AT_ONCE: Final = 240  # clips

Pair = tuple[str, str]  # what was said, and what was written


def build(folder: Path, config: Config) -> None:
    """Write the pairs of a run, where they are missing."""
    path = folder / FILE
    if path.exists():
        return
    clips = [clip for clip in corpus.spoken(folder / "corpus") if not clip.voice.startswith(EASY)]
    Random(config.seed).shuffle(clips)
    rng, writer, pairs = np.random.default_rng(config.seed), Writer(config.threads), list[Pair]()
    for part in chunks(clips[: config.corpus.misheard], AT_ONCE):
        pairs += differing(rng, writer, part)
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    print(f"misheard {len(pairs)} of {min(config.corpus.misheard, len(clips))} sentences", flush=True)


def load(folder: Path) -> list[Pair]:
    """The pairs of a run; none, where none were made."""
    path = folder / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(said, written) for said, written in map(json.loads, lines)]


def differing(rng: np.random.Generator, writer: Writer, clips: list[Clip]) -> list[Pair]:
    """The pairs of clips that are written otherwise than they were said, each as heard over some microphone."""
    others = [clips[place].sound for place in rng.integers(len(clips), size=3)]
    heard = [augment.heard(rng, clip.sound, others) for clip in clips]
    return [
        (clip.text, written.text)
        for clip, written in zip(clips, writer.write(heard), strict=True)
        if written.score > NOISE_SCORE
        and not looping(written.text)
        and bare(clip.text) != bare(written.text)
        and words_wrong([(clip.text, written.text)]) < WORST
    ]
