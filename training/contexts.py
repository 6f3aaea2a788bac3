"""Contexts of the reading stage: audio of sounds and speech, between captions or alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from af3stream.audio import SAMPLE_RATE
from training import augment, corpus, questions, sounds, texts
from training.model import FRAME
from training.questions import Asked
from training.voices import Samples

WINDOW_S = (1.5, 7.0)  # length of a window with a sound, including silence
BETWEEN = 0.3  # share of windows between captions
NEAR = 0.6  # share of windows without augmentation


@dataclass(frozen=True)
class Context:
    """Parts of a prompt, and questions about them.

    Attributes:
        parts: windows of samples (n,) float32 at 16 kHz, n a multiple of ``FRAME``, and captions.
        asked: questions; each is answered over the same parts.
    """

    parts: tuple[Samples | str, ...]
    asked: tuple[Asked, ...]


class Contexts:
    """Draws random contexts of each kind.

    Args:
        folder: folder of clips.
        held_out: use only texts of validation.
    """

    def __init__(self, folder: Path, seed: int, *, held_out: bool = False) -> None:
        self._random = Random(seed)
        self._rng = np.random.default_rng(seed)
        self._texts = [text for text in texts.collected() if texts.held_out(text) == held_out]
        clips = corpus.spoken(folder)
        self._speech = [clip for clip in clips if clip.of_speech]
        self._sounds = [clip for clip in clips if not clip.of_speech]

    def heard(self) -> Context:
        """Draw a window of a sound, silence or speech, alone or between captions, with questions about it."""
        name, window = self._window()
        asked = questions.about_sound(self._random, name)
        if self._random.random() < BETWEEN:
            minute = self._random.randint(0, 8)
            before, after = (self._captions(minute + late, self._random.randint(0, 2)) for late in (0, 1))
            return Context((before, window, after), tuple(asked))
        return Context((window,), tuple(asked))

    def transcribed(self) -> Context:
        """Draw one or two sentences to transcribe from audio."""
        clips = self._random.choices(self._speech, k=self._random.choice((1, 1, 2)))
        text = " ".join(clip.text for clip in clips)
        return Context((self._arrived([clip.sound for clip in clips]),), (questions.transcription(self._random, text),))

    def read(self) -> tuple[str, str]:
        """Draw captions with a question and an answer, over which the language model should not change."""
        captions = self._captions(self._random.randint(0, 8), self._random.randint(4, 14))
        said = [line.partition("] ")[2] for line in captions.splitlines()]
        absent = [texts.drawn(self._random, self._texts) for _ in range(4)]
        asked = self._random.choice(questions.about_speech(self._random, said, absent, 6))
        return captions + questions.asking(asked.question), asked.answer

    def _captions(self, minute: int, count: int) -> str:
        """Return caption lines as the service formats them, from some minute of the session on."""
        lines, at = list[str](), 60.0 * minute
        for _ in range(count):
            lines.append(f"[{int(at) // 60}:{int(at) % 60:02}] {texts.drawn(self._random, self._texts)}\n")
            at += self._random.uniform(2, 7)
        return "".join(lines)

    def _window(self) -> tuple[str, Samples]:
        kind = self._random.random()
        if kind < 0.12 or not self._sounds:
            return "silence", self._arrived([sounds.take("silence", self._rng)])
        if kind < 0.3:
            return "speech", self._arrived([self._random.choice(self._speech).sound])
        clip = self._random.choice(self._sounds)
        return clip.voice.partition(" ")[2], self._arrived([clip.sound])

    def _arrived(self, heard: Sequence[Samples]) -> Samples:
        """Join sounds with pauses between and around them, and change the level or augment them."""
        rng = self._rng
        parts = list[Samples]()
        for sound in heard:
            parts += [np.zeros(int(rng.uniform(0, 1.5) * SAMPLE_RATE), np.float32), sound]
        samples = np.concatenate(parts)
        least = int(rng.uniform(*WINDOW_S) * SAMPLE_RATE)
        samples = np.pad(samples, (0, max(0, least - len(samples)) if rng.random() < 0.5 else 0))
        samples = np.pad(samples, (0, -len(samples) % FRAME)).astype(np.float32)
        level = float(np.sqrt(np.square(samples).mean()))
        if level < 1e-3:  # the level of silence is not changed
            return samples
        if rng.random() < NEAR:
            return augment.at_level(samples, rng.uniform(-34, -14))
        return augment.heard(rng, samples, [self._random.choice(self._speech).sound for _ in range(2)])
