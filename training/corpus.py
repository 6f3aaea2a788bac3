"""Spoken clips on disk: shards of 16-bit samples, each with its texts and voices.

A shard is ``NNNN.npz``: ``samples`` int16 (all clips, one after the other, 16 kHz), ``ends`` int64 (where each ends),
``texts`` and ``voices``. It appears whole or not at all, and the same seed gives the same shard.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from af3stream.audio import SAMPLE_RATE
from training import texts, voices
from training.voices import Samples

SECONDS = (0.4, 9.0)  # of a clip; others are left out
SPEAKERS = 2  # synthesizers at a time


@dataclass(frozen=True)
class Clip:
    """A sentence, spoken; samples (n,) int16 at 16 kHz.

    Attributes:
        voice: who speaks, or what sounds: what makes it, a space, and which one of those.
    """

    samples: NDArray[np.int16]
    text: str
    voice: str

    @property
    def of_people(self) -> bool:
        """Whether somebody was recorded."""
        return self.voice.startswith("people ")

    @property
    def of_speech(self) -> bool:
        """Whether anybody speaks."""
        return not self.voice.startswith("sound ")

    @property
    def sound(self) -> Samples:
        """The samples within ±1, float32."""
        return self.samples.astype(np.float32) / np.float32(32_768)


def spoken(folder: Path) -> list[Clip]:
    """The clips of all shards that are there."""
    return [clip for path in sorted(folder.glob("[0-9]*.npz")) for clip in load(path)]


def load(path: Path) -> Iterator[Clip]:
    """The clips of one shard."""
    with np.load(path) as shard:
        pieces = np.split(shard["samples"], shard["ends"][:-1])
        for piece, text, voice in zip(pieces, shard["texts"], shard["voices"], strict=True):
            yield Clip(piece, str(text), str(voice))


def build(folder: Path, shards: int, clips: int, *, seed: int, held_out: bool = False) -> None:
    """Speak what is missing of a corpus.

    Args:
        folder: created where it is missing.
        shards: how many.
        clips: in each.
        held_out: with the texts and voices of validation, instead of those of training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [(n, path) for n in range(shards) if not (path := folder / f"{n:04}.npz").exists()]
    pool = [text for text in texts.collected() if texts.held_out(text) == held_out] if missing else []
    for number, path in missing:
        begun = time.monotonic()
        draws = [Random(f"{seed} {number} {clip} {held_out}") for clip in range(clips)]
        with ThreadPoolExecutor(SPEAKERS) as speakers:
            said = list(speakers.map(partial(_speak, pool, held_out), draws))
        save(path, said)
        seconds = sum(len(clip.samples) for clip in said) / SAMPLE_RATE
        print(f"corpus {path.name} {seconds:.0f} s of speech in {time.monotonic() - begun:.0f} s", flush=True)


def _speak(pool: Sequence[str], held_out: bool, random: Random) -> Clip:
    """One clip: drawn again until its text is on the right side and its length is within ``SECONDS``."""
    cast = voices.HELD_OUT if held_out else voices.TRAINED
    while True:
        text = texts.drawn(random, pool)
        if texts.held_out(text) != held_out:
            continue
        voice = voices.drawn(random, cast)
        samples = trimmed(voices.speak(voice, text, random))
        if SECONDS[0] <= len(samples) / SAMPLE_RATE <= SECONDS[1]:
            return Clip((samples * 32_767).astype(np.int16), text, f"{voice.engine} {voice.name}")


def trimmed(samples: Samples, margin_s: float = 0.05) -> Samples:
    """Without the silence before and after."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * max(1e-4, np.abs(samples).max()))
    if not len(loud):
        return samples[:0]
    margin = int(margin_s * SAMPLE_RATE)
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]


def save(path: Path, clips: Sequence[Clip]) -> None:
    """Write a shard; it appears whole."""
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        np.savez(
            file,
            samples=np.concatenate([clip.samples for clip in clips]),
            ends=np.cumsum([len(clip.samples) for clip in clips]),
            texts=np.array([clip.text for clip in clips]),
            voices=np.array([clip.voice for clip in clips]),
        )
    beside.rename(path)
