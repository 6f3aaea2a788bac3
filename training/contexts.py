"""What the language model reads in training: frames of one to three windows, notes or none, and many questions.

A context costs its frames once: all its questions share one prefix, each a branch that sees the prefix and itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.af3.prompt import Template, encode_text
from training import augment, corpus, questions, sounds, texts
from training.corpus import Clip
from training.model import FRAME
from training.questions import TURN, Asked
from training.voices import Samples

WINDOW_S = 24.0  # after which the next pause closes a window, as the service does between 15 and 30 s
FAR = 3_200  # positions that a long conversation's frames would take


@dataclass(frozen=True)
class Context:
    """What is heard and asked.

    Attributes:
        windows: samples (n,) float32 of each.
        notes: the transcript in the prompt; empty: none.
        skipped: positions left out between the frames and what follows, as if there were more frames.
    """

    windows: tuple[Samples, ...]
    notes: str
    asked: tuple[Asked, ...]
    skipped: int = 0


@dataclass(frozen=True)
class Layout:
    """A context as the language model takes it.

    Attributes:
        ids: token ids (n,), -1 where a frame stands.
        positions: (n,), each branch going on where the prefix ended.
        branches: (n,), 0 in the prefix, k in the k-th question.
        answers: (n,), whether the token is to be predicted.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    branches: torch.Tensor
    answers: torch.Tensor

    def mask(self) -> torch.Tensor:
        """What may see what, (1, 1, n, n), additive."""
        n = len(self.ids)
        same = (self.branches[:, None] == self.branches[None]) | (self.branches[None] == 0)
        seen = same & torch.ones(n, n, dtype=torch.bool).tril()
        return torch.where(seen, 0.0, torch.finfo(torch.bfloat16).min)[None, None]


def lay_out(context: Context, frames: int, template: Template, tokenizer: Any, end: int) -> Layout:
    """The prompt of each question, the prefix that they share only once, in the service's own layout."""
    note = encode_text(tokenizer, f"Transcript: {context.notes}\n") if context.notes else []
    head = len(template.head)
    ids = [*template.head, *([-1] * frames), *note]
    positions = [*range(head + frames), *range(head + frames + context.skipped, len(ids) + context.skipped)]
    branches, answers = [0] * len(ids), [False] * len(ids)
    following = len(ids) + context.skipped
    for number, asked in enumerate(context.asked, start=1):
        prompt = [*encode_text(tokenizer, asked.question), *template.tail]
        answer = [*(encode_text(tokenizer, asked.answer) if asked.answer else []), end]
        ids += prompt + answer
        positions += range(following, following + len(prompt) + len(answer))
        branches += [number] * (len(prompt) + len(answer))
        answers += [False] * len(prompt) + [True] * len(answer)
    return Layout(*(torch.tensor(column) for column in (ids, positions, branches, answers)))


class Contexts:
    """Draws contexts of every kind.

    Args:
        folder: of spoken clips.
        held_out: with texts of validation only.
    """

    def __init__(self, folder: Path, seed: int, *, held_out: bool = False) -> None:
        self._random = Random(seed)
        self._rng = np.random.default_rng(seed)
        self._texts = [text for text in texts.collected() if texts.held_out(text) == held_out]
        clips = corpus.spoken(folder)
        self._speech = [clip for clip in clips if not clip.voice.startswith("sound")]
        self._sounds = [clip for clip in clips if clip.voice.startswith("sound")]
        self._turns = [clip for clip in self._speech if TURN.match(clip.text)]

    def draw(self, reading: float = 0.45) -> Context:
        """One context; ``reading`` of them have notes."""
        kind = self._random.random()
        if kind < reading:
            return self.read()
        rest = (kind - reading) / (1 - reading)
        return self.heard() if rest < 0.45 else self.transcribed() if rest < 0.75 else self.sound()

    def read(self) -> Context:
        """A conversation of up to two minutes with its transcript, and frames of only some of it."""
        random = self._random
        sentences = [texts.drawn(random, self._texts) for _ in range(random.choice((3, 6, 12, 20, 30, 40)))]
        if random.random() < 0.5:
            for place in random.sample(range(len(sentences)), min(3, len(sentences))):
                sentences[place] = texts.turn(random, self._texts)
        if random.random() < 0.2:
            sentences = [heard for sentence in sentences if (heard := misheard(random, sentence))]
        absent = [texts.drawn(random, self._texts) for _ in range(8)]
        asked = questions.about_speech(random, sentences, absent, random.randint(8, 13))
        windows: tuple[Samples, ...] = ()
        if random.random() < 0.7:
            windows = self._windows([random.choice(self._speech) for _ in range(random.randint(1, 2))])
        return Context(windows, " ".join(sentences), tuple(asked), self._far(0.7))

    def heard(self) -> Context:
        """Some sentences, questions about them, and nothing to read."""
        random = self._random
        clips = [random.choice(self._speech) for _ in range(random.choice((2, 3, 3, 4, 4, 5, 6, 8, 10, 14)))]
        if random.random() < 0.4 and len(self._turns) > 2:
            clips[:2] = random.sample(self._turns, 2)
            random.shuffle(clips)
        sentences = [clip.text for clip in clips]
        absent = [random.choice(self._speech).text for _ in range(5)]
        asked = questions.about_speech(random, sentences, absent, random.randint(6, 10))
        if random.random() < 0.4:
            asked.append(questions.transcription(random, sentences))
        return Context(self._windows(clips), "", tuple(asked), self._far(0.4))

    def transcribed(self) -> Context:
        """One or two sentences to write down."""
        clips = [self._random.choice(self._speech) for _ in range(self._random.choice((1, 1, 2)))]
        asked = [questions.transcription(self._random, [clip.text for clip in clips])]
        if self._random.random() < 0.2:
            asked += questions.about_sound("speech")
        return Context(self._windows(clips), "", tuple(asked))

    def sound(self) -> Context:
        """A sound, an instrument or silence, in which nothing is said."""
        if not self._sounds or self._random.random() < 0.08:
            windows: tuple[Samples, ...] = (sounds.take("silence", self._rng),)
            name = "silence"
        else:
            clip = self._random.choice(self._sounds)
            windows, name = self._windows([clip], gentle=True), clip.voice.partition(" ")[2]
        asked = questions.about_sound(name)
        if self._random.random() < 0.3:
            asked.append(Asked("transcribe", questions.TRANSCRIBE, ""))
        return Context(windows, "", tuple(asked))

    def _far(self, share: float) -> int:
        """Positions to leave out, in this share of contexts."""
        return self._random.randint(0, FAR) if self._random.random() < share else 0

    def _windows(self, clips: Sequence[Clip], *, gentle: bool = False) -> tuple[Samples, ...]:
        """The clips, one after the other with pauses, cut at a pause where a window is long."""
        rng, windows, parts = self._rng, list[Samples](), list[Samples]()
        for clip in clips:
            if parts and sum(map(len, parts)) > WINDOW_S * SAMPLE_RATE * rng.uniform(0.6, 1):
                windows.append(self._window(parts, gentle))
                parts = []
            pause = np.zeros(int(rng.uniform(0.2, 0.7) * SAMPLE_RATE), np.float32)
            parts += [pause, augment.faster(clip.sound, rng.uniform(0.93, 1.08))]
        windows.append(self._window([*parts, np.zeros(int(0.3 * SAMPLE_RATE), np.float32)], gentle))
        return tuple(windows)

    def _window(self, parts: Sequence[Samples], gentle: bool) -> Samples:
        samples = np.concatenate(parts)[: 30 * SAMPLE_RATE]
        samples = samples[: len(samples) // FRAME * FRAME]
        if gentle or self._rng.random() < 0.4:
            return augment.at_level(samples, self._rng.uniform(-32, -16))
        others = [self._random.choice(self._speech).sound for _ in range(2)]
        return augment.heard(self._rng, samples, others)


def misheard(random: Random, notes: str) -> str:
    """A transcript as a small captioner may write it: some words wrong, doubled or left out."""
    words = notes.split()
    for place in range(len(words)):
        if random.random() < 0.04:
            words[place] = random.choice(
                ("", random.choice(words), words[place].lower().strip(".,"), words[place][:-2])
            )
    return " ".join(word for word in words if word)
