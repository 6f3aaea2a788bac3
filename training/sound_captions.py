"""Whether sounds get their names in brackets, and whether speech and noise get none.

Each take and each piece of speech is asked about by itself, as if no caption covered it. The service asks about less,
because most speech has captions. So the false captions of an hour of speech are an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.captioning import NamedSound, Samples
from af3stream.engine.contract import Engine
from af3stream.session.sound_track import bracketed
from training import augment, exams, sounds
from training.voices import read

PIECE_S: Final = (3.0, 8.0)  # length of a piece of speech
LEVELS_DBFS: Final = (-36.0, -16.0)
NOISE_SLOPES: Final = (0.0, 2.0)  # from white to brown
THRESHOLDS: Final = (0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)

Group = Literal["takes", "other recordings", "speech", "noise"]


@dataclass(frozen=True)
class Piece:
    """What is asked about.

    Attributes:
        samples: (n,) at 16 kHz.
        any_of: a right caption has one of these words; empty: there must be none.
    """

    group: Group
    name: str
    samples: Samples
    any_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Named:
    """A piece, and what the model says of it."""

    piece: Piece
    heard: NamedSound

    def caption(self, sure: float) -> str | None:
        """The caption at a threshold of confidence."""
        return bracketed(self.heard.text) if self.heard.confidence >= sure else None

    def right(self, sure: float) -> bool:
        """Whether the caption at a threshold is right."""
        caption = self.caption(sure)
        return caption is not None and any(word in caption for word in self.piece.any_of)

    def false(self, sure: float) -> bool:
        """Whether the caption at a threshold names what is not there."""
        return self.caption(sure) is not None and not self.right(sure)


def takes(count: int, seed: int) -> Iterator[Piece]:
    """Yield new takes of instruments and sounds, each kind in its turn, and a piece of noise after every fourth."""
    rng = np.random.default_rng(seed)
    names = rng.permutation([*sounds.INSTRUMENTS, *sounds.SOUNDS])
    for number in range(count):
        name = str(names[number % len(names)])
        samples = sounds.take(name, np.random.default_rng([seed, number, *name.encode()]))
        any_of = ("music", name) if name in sounds.INSTRUMENTS else (name,)
        yield Piece("takes", name, augment.at_level(samples, rng.uniform(*LEVELS_DBFS)), any_of)
        if number % 4 == 3:
            t = np.arange(int(rng.uniform(*PIECE_S) * SAMPLE_RATE)) / SAMPLE_RATE
            noise = sounds.hiss(rng, t, rng.uniform(*NOISE_SLOPES)).astype(np.float32)
            yield Piece("noise", "noise", augment.at_level(noise, rng.uniform(*LEVELS_DBFS)))


def others() -> Iterator[Piece]:
    """Yield recordings of sounds from packages that training does not use."""
    for name, samples, (asked, *_) in exams.other_sounds():
        if name != "audio-channel-front-center":
            any_of = tuple(word for word in asked.any_of if word != "sound")
            yield Piece("other recordings", name, samples, any_of)


def speech(recordings: Sequence[Path], most_s: float, seed: int) -> Iterator[Piece]:
    """Cut recordings of speech into pieces, at most so many seconds in all, each recording in its turn."""
    rng = np.random.default_rng(seed)
    pieces: list[list[Piece]] = []
    for path in recordings:
        samples, cut = read(path), list[Piece]()
        while len(samples) >= PIECE_S[0] * SAMPLE_RATE:
            size = int(rng.uniform(*PIECE_S) * SAMPLE_RATE)
            level = rng.uniform(*LEVELS_DBFS)
            cut.append(Piece("speech", path.stem, augment.at_level(samples[:size], level)))
            samples = samples[size:]
        pieces.append(cut)
    for turn in range(max(map(len, pieces), default=0)):
        for cut in pieces:
            if turn < len(cut) and most_s > 0:
                most_s -= len(cut[turn].samples) / SAMPLE_RATE
                yield cut[turn]


def named(engine: Engine, pieces: Iterable[Piece]) -> Iterator[Named]:
    """Ask about each piece; the engine must name sounds (`captions.sounds`)."""
    assert engine.sounds is not None, "captions.sounds is off"
    for piece in pieces:
        (embeddings,) = engine.encode([piece.samples])
        *_, heard = engine.sounds.name(embeddings, 0, engine.tokens.frames(len(piece.samples)))
        assert heard is not None
        yield Named(piece, heard)


def figures(results: Sequence[Named], sure: float) -> dict[str, Any]:
    """Return recall of sounds, the share that gets a wrong name, and false captions, by group."""
    there = [each for each in results if each.piece.any_of]
    found: dict[str, Any] = {"sure": sure}
    for group in sorted({each.piece.group for each in there}):
        own = [each for each in there if each.piece.group == group]
        found[f"recall, {group}"] = sum(each.right(sure) for each in own) / len(own)
        found[f"wrong names, {group}"] = sum(each.false(sure) for each in own) / len(own)
    spoken = [each for each in results if each.piece.group == "speech"]
    if spoken:
        hours = sum(len(each.piece.samples) for each in spoken) / SAMPLE_RATE / 3_600
        found["hours of speech"] = hours
        found["false captions an hour of speech"] = sum(each.false(sure) for each in spoken) / hours
    noise = [each for each in results if each.piece.group == "noise"]
    if noise:
        found["noise with a caption"] = sum(each.false(sure) for each in noise) / len(noise)
    return found
