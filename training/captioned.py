"""What Whisper writes of spoken sentences, so that notes in training are as notes are.

It mishears some, and of others it misses the capital or the stop. ``captioned.jsonl`` holds pairs: what was said, and
what was written.
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
from training.score import words_wrong
from training.windows import NEAR
from training.writer import Writer, chunks

FILE: Final = "captioned.jsonl"
UNHEARD: Final = ("people", "sound")  # the texts of people are Whisper's own
WORST: Final = 0.7  # of the words wrong, above which nobody can know what was said
AT_ONCE: Final = 240  # clips

Pair = tuple[str, str]  # what was said, and what was written


def build(folder: Path, config: Config) -> None:
    """Write the pairs of a folder of clips beside them, where they are missing."""
    path = folder / FILE
    if path.exists():
        return
    clips = [clip for clip in corpus.spoken(folder) if not clip.voice.startswith(UNHEARD)]
    Random(config.seed).shuffle(clips)
    rng, writer, pairs = np.random.default_rng(config.seed), Writer(config.threads), list[Pair]()
    for part in chunks(clips[: config.corpus.captioned], AT_ONCE):
        pairs += written(rng, writer, part)
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    print(f"captioned {len(pairs)} of {min(config.corpus.captioned, len(clips))} sentences", flush=True)


def load(folder: Path) -> list[Pair]:
    """The pairs of a folder of clips; none, where none were made."""
    path = folder / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(said, written) for said, written in map(json.loads, lines)]


def written(rng: np.random.Generator, writer: Writer, clips: list[Clip]) -> list[Pair]:
    """The pairs of clips, each as it was spoken or over some microphone, but for those that nobody could know again."""
    others = [clips[place].sound for place in rng.integers(len(clips), size=3)]
    heard = [clip.sound if rng.random() < NEAR else augment.heard(rng, clip.sound, others) for clip in clips]
    return [
        (clip.text, caption.text)
        for clip, caption in zip(clips, writer.write(heard), strict=True)
        if caption.score > NOISE_SCORE
        and not looping(caption.text)
        and words_wrong([(clip.text, caption.text)]) < WORST
    ]
