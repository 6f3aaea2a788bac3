"""What is listened to in training: clips in windows, as they may arrive, in the tokens and letters they are to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from af3stream.audio import SAMPLE_RATE
from training import augment, corpus, score
from training.config import Listen
from training.corpus import Clip
from training.model import FRAME
from training.units import Units
from training.voices import Samples

REFRESH = 100  # windows after which new shards are looked for
LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
NEAR = 0.5  # of the windows are heard as they were spoken
WINDOW_S = (3.0, 16.0)  # of several clips in one window, at most


@dataclass(frozen=True)
class Heard:
    """A window to learn from.

    Attributes:
        samples: (n,) float32 at 16 kHz.
        ids: its tokens.
        letters: its letters, as places in ``LETTERS``.
        spans: (first sample, last sample, tokens) of each clip in it.
    """

    samples: Samples
    ids: list[int]
    letters: list[int]
    spans: list[tuple[int, int, int]]


class Windows:
    """Windows of one clip or several, as they may arrive; batches of like length.

    Args:
        units: the tokens of their texts.
        config: seconds of audio in a batch, and how many of the clips are of people.
    """

    def __init__(self, folder: Path, units: Units, config: Listen, seed: int) -> None:
        self._folder = folder
        self._units = units
        self._batch = int(config.batch_s * SAMPLE_RATE)
        self._rng = np.random.default_rng(seed)
        self._taken: set[Path] = set()
        self._people, self._others = list[Clip](), list[Clip]()
        self._share = config.people

    def refresh(self) -> None:
        """Take in the shards that were written meanwhile."""
        for path in sorted({*self._folder.glob("[0-9]*.npz")} - self._taken):
            self._taken.add(path)
            for clip in corpus.load(path):
                (self._people if clip.of_people else self._others).append(clip)

    def batches(self) -> Iterator[list[Heard]]:
        """Without end."""
        while True:
            self.refresh()
            windows = sorted((self._window() for _ in range(REFRESH)), key=lambda window: len(window.samples))
            ready: list[list[Heard]] = [[]]
            for window in windows:
                if (len(ready[-1]) + 1) * len(window.samples) > self._batch:
                    ready.append([])
                ready[-1].append(window)
            for place in self._rng.permutation(len(ready)):
                if ready[place]:
                    yield self._alike(ready[place])

    def _clip(self) -> Clip:
        of_people = self._people and self._rng.random() < self._share
        clips = self._people if of_people else self._others
        return clips[self._rng.integers(len(clips))]

    def _window(self) -> Heard:
        """One clip, or up to nine with pauses between them."""
        rng, count = self._rng, 1 if self._rng.random() < 0.4 else int(self._rng.integers(2, 10))
        longest = rng.uniform(*WINDOW_S)
        parts = [np.zeros(int(rng.uniform(0, 0.4) * SAMPLE_RATE), np.float32)]
        spans, ids, letters, length = [], list[int](), list[int](), len(parts[0])
        hurried, factor = rng.random() > NEAR, rng.uniform(0.86, 1.16)
        for _ in range(count):
            clip = self._clip()
            speech = augment.faster(clip.sound, factor) if hurried else clip.sound
            if spans and length + len(speech) > longest * SAMPLE_RATE:
                break
            tokens = self._units.encode(clip.text, first=not ids)
            spans.append((length, length + len(speech), len(tokens)))
            ids += tokens
            letters += spelled(clip.text)
            parts += [speech, np.zeros(int(rng.uniform(0.1, 0.7) * SAMPLE_RATE), np.float32)]
            length += len(speech) + len(parts[-1])
        return Heard(np.concatenate(parts).astype(np.float32), ids, letters, spans)

    def _alike(self, windows: Sequence[Heard]) -> list[Heard]:
        """The windows at one length, as heard over some microphone."""
        longest = max(len(window.samples) for window in windows)
        length = -(-longest // FRAME) * FRAME
        alike = []
        for window in windows:
            level = 10 ** (self._rng.uniform(-10, 10) / 20)
            padded = np.pad(window.samples * level, (0, length - len(window.samples)))
            if self._rng.random() < NEAR:
                samples = augment.at_level(padded, self._rng.uniform(-34, -14))
            else:
                samples = augment.heard(self._rng, padded, [self._clip().sound for _ in range(3)])
            alike.append(dataclasses.replace(window, samples=samples))
        return alike


def spelled(text: str) -> list[int]:
    """The letters of a text, a space before each word."""
    return [LETTERS.index(letter) for letter in f" {' '.join(score.bare(text))}" if letter in LETTERS]
