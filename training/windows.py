"""Windows of the alignment stage: augmented clips, and their target tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from af3stream.audio import SAMPLE_RATE
from training import augment, corpus
from training.config import Listen
from training.corpus import Clip
from training.model import FRAME
from training.units import Units
from training.voices import Samples

NEAR = 0.6  # share of windows without augmentation
ALONE = 0.4  # share of windows with one clip; others have up to nine
WINDOW_S = (3.0, 16.0)  # longest window of several clips


@dataclass(frozen=True)
class Heard:
    """A training window.

    Attributes:
        samples: (n,) float32 at 16 kHz, n a multiple of ``FRAME``.
        ids: target token ids.
    """

    samples: Samples
    ids: list[int]


class Windows:
    """Draws windows of one or several augmented clips.

    Args:
        folder: folder of shards.
        units: encodes texts to tokens.
        config: shares of clips of people and of sounds.
    """

    def __init__(self, folder: Path, units: Units, config: Listen, seed: int) -> None:
        self._units = units
        self._rng = np.random.default_rng(seed)
        clips = corpus.spoken(folder)
        kinds = (
            (config.people, [clip for clip in clips if clip.of_people]),
            (config.sounds, [clip for clip in clips if not clip.of_speech]),
            (1 - config.people - config.sounds, [clip for clip in clips if clip.of_speech and not clip.of_people]),
        )
        present = [(share, kind) for share, kind in kinds if kind]
        self._kinds = [kind for _, kind in present]
        self._shares = np.array([share for share, _ in present]) / sum(share for share, _ in present)

    def draw(self) -> Heard:
        """Draw one window."""
        rng, count = self._rng, 1 if self._rng.random() < ALONE else int(self._rng.integers(2, 10))
        longest = rng.uniform(*WINDOW_S)
        parts = [np.zeros(int(rng.uniform(0, 0.4) * SAMPLE_RATE), np.float32)]
        ids, length = list[int](), len(parts[0])
        factor = rng.uniform(0.86, 1.16) if rng.random() > NEAR else 1.0
        for _ in range(count):
            clip = self._clip()
            sound = augment.faster(clip.sound, factor)
            if ids and length + len(sound) > longest * SAMPLE_RATE:
                break
            ids += self._units.encode(clip.text, first=not ids)
            parts += [sound, np.zeros(int(rng.uniform(0.1, 0.7) * SAMPLE_RATE), np.float32)]
            length += len(sound) + len(parts[-1])
        return Heard(self._arrived(np.concatenate(parts)), ids)

    def _clip(self) -> Clip:
        clips = self._kinds[self._rng.choice(len(self._kinds), p=self._shares)]
        return clips[self._rng.integers(len(clips))]

    def _arrived(self, samples: Samples) -> Samples:
        """Change the level of samples or augment them, and pad to whole frames."""
        samples = np.pad(samples, (0, -len(samples) % FRAME)).astype(np.float32)
        if self._rng.random() < NEAR:
            return augment.at_level(samples, self._rng.uniform(-34, -14))
        return augment.heard(self._rng, samples, [self._clip().sound for _ in range(3)])
