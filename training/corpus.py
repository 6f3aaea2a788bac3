"""Store spoken clips on disk as shards of 16-bit samples with texts and voices.

A shard is ``NNNN.npz``: ``samples`` int16 (all clips in sequence, 16 kHz), ``ends`` int64 (end of each clip),
``texts`` and ``voices``. It is written atomically, and the same seed gives the same shard.
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

SECONDS = (0.4, 9.0)  # length of a clip; others are left out
SPEAKERS = 2  # concurrent synthesizers


@dataclass(frozen=True)
class Clip:
    """A spoken sentence or a sound; samples (n,) int16 at 16 kHz.

    Attributes:
        voice: the synthesizer, ``people`` or ``sound``, then a space and the name of the voice or sound.
    """

    samples: NDArray[np.int16]
    text: str
    voice: str

    @property
    def of_people(self) -> bool:
        """Whether the clip is a recording of a person."""
        return self.voice.startswith("people ")

    @property
    def of_speech(self) -> bool:
        """Whether the clip is speech."""
        return not self.voice.startswith("sound ")

    @property
    def sound(self) -> Samples:
        """Samples within ±1, float32."""
        return self.samples.astype(np.float32) / np.float32(32_768)


def spoken(folder: Path) -> list[Clip]:
    """Load the clips of all shards in a folder."""
    return [clip for path in sorted(folder.glob("[0-9]*.npz")) for clip in load(path)]


def load(path: Path) -> Iterator[Clip]:
    """Load the clips of one shard."""
    with np.load(path) as shard:
        pieces = np.split(shard["samples"], shard["ends"][:-1])
        for piece, text, voice in zip(pieces, shard["texts"], shard["voices"], strict=True):
            yield Clip(piece, str(text), str(voice))


def build(folder: Path, shards: int, clips: int, *, seed: int, held_out: bool = False) -> None:
    """Synthesise the missing shards of a corpus.

    Args:
        folder: created if it is missing.
        shards: number of shards.
        clips: clips in each shard.
        held_out: use the texts and voices of validation instead of those of training.
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
    """Synthesise one clip; draw again until text and length are allowed (``held_out``, ``SECONDS``)."""
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
    """Remove silence at the start and the end."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * max(1e-4, np.abs(samples).max()))
    if not len(loud):
        return samples[:0]
    margin = int(margin_s * SAMPLE_RATE)
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]


def save(path: Path, clips: Sequence[Clip]) -> None:
    """Write a shard atomically."""
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
