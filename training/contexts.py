"""What the language model reads in training: windows with their notes, windows alone, and many questions.

A context costs its frames once: all its questions share one prefix, each a branch that sees the prefix and itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.af3.prompt import Template, encode_text
from af3stream.engine.contract import note
from training import augment, corpus, questions, sounds, texts
from training.captioned import Pair
from training.corpus import Clip
from training.model import FRAME
from training.questions import TURN, Asked
from training.score import bare
from training.units import Units
from training.voices import Samples

WINDOW_S = 24.0  # after which the next pause closes a window, as the service does between 15 and 30 s
FAR = 3_200  # positions that a long conversation's frames would take
UNHEARD = (250, 750)  # positions of a window whose frames are left out
CAPTIONED = 0.7  # of the transcripts are as Whisper writes
MISHEARD = 0.6  # of such a transcript's sentences are misheard, at most
SMALL, ENDLESS = 0.45, 0.08  # of its sentences begin with a small letter, have no stop
TRANSCRIBED = 9  # sentences, from which on a conversation is long: not written down, its windows never far away
END = np.zeros(int(0.3 * SAMPLE_RATE), np.float32)  # of a window


@dataclass(frozen=True)
class Stretch:
    """A window and the notes that stand after it.

    Attributes:
        window: samples (n,) float32, n a multiple of `FRAME`; ``None``: it is not heard.
        skipped: positions left out before the notes, as if there were frames.
        notes: its transcript; empty: none.
    """

    window: Samples | None
    skipped: int = 0
    notes: str = ""


@dataclass(frozen=True)
class Context:
    """What is heard, read and asked."""

    stretches: tuple[Stretch, ...]
    asked: tuple[Asked, ...]

    @property
    def windows(self) -> list[Samples]:
        """What is heard."""
        return [stretch.window for stretch in self.stretches if stretch.window is not None]

    @property
    def notes(self) -> bool:
        """Whether anything is read."""
        return any(stretch.notes for stretch in self.stretches)


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

    def weights(self) -> torch.Tensor:
        """Of the answers' tokens, (tokens,): an answer of k weighs as the root of k."""
        branches = self.branches[self.answers]
        return torch.bincount(branches)[branches].float().rsqrt()


def lay_out(context: Context, template: Template, tokenizer: Any, units: Units, end: int) -> Layout:
    """The prompt of each question, the prefix that they share only once, in the service's own layout.

    An answer is written in the tokens of what it is taken from: those of the notes, or those that frames are.
    """
    ids, positions = list(template.head), list(range(len(template.head)))
    following = len(ids)
    for stretch in context.stretches:
        frames = 0 if stretch.window is None else len(stretch.window) // FRAME
        words = encode_text(tokenizer, note([stretch.notes]).text) if stretch.notes else []
        ids += [*([-1] * frames), *words]
        after = following + frames + stretch.skipped
        positions += [*range(following, following + frames), *range(after, after + len(words))]
        following = after + len(words)
    branches, answers = [0] * len(ids), [False] * len(ids)
    for number, asked in enumerate(context.asked, start=1):
        prompt = [*encode_text(tokenizer, asked.question), *template.tail]
        own = encode_text(tokenizer, asked.answer) if context.notes else units.encode(asked.answer, first=True)
        answer = [*own, end]
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
        captioned: what was said, and what Whisper wrote.
    """

    def __init__(self, folder: Path, seed: int, *, held_out: bool = False, captioned: Sequence[Pair] = ()) -> None:
        self._random = Random(seed)
        self._rng = np.random.default_rng(seed)
        self._captioned = dict(captioned)
        self._texts = [text for text in texts.collected() if texts.held_out(text) == held_out]
        clips = corpus.spoken(folder)
        self._speech = [clip for clip in clips if clip.of_speech]
        self._written = [clip for clip in self._speech if clip.text in self._captioned]
        self._misheard = [clip for clip in self._written if bare(clip.text) != bare(self._captioned[clip.text])]
        self._people = [clip for clip in clips if clip.of_people]
        self._sounds = [clip for clip in clips if not clip.of_speech]
        self._turns = [clip for clip in self._speech if TURN.match(clip.text)]

    def draw(self, reading: float = 0.45) -> Context:
        """One context; ``reading`` of them have notes."""
        kind = self._random.random()
        if kind < reading:
            return self.read()
        rest = (kind - reading) / (1 - reading)
        return self.heard() if rest < 0.55 else self.transcribed() if rest < 0.94 else self.sound()

    def read(self) -> Context:
        """A conversation of up to three minutes with its transcript, and frames of only some of it.

        A sentence's answer is what was said if it is heard too, and else what was written.
        """
        random = self._random
        count, heard = random.choice((3, 6, 12, 20, 30, 40)), random.choice((0, 0, 0, 1, 2, 4))
        stretches, sentences, audible = list[Stretch](), list[str](), set[str]()
        captioned = bool(self._written) and random.random() < CAPTIONED
        hard = random.uniform(0, MISHEARD) if captioned and self._misheard else 0.0
        written = dict[str, str]()

        def noted(said: Sequence[str]) -> str:
            if not captioned:
                return " ".join(said)
            for sentence in said:
                written.setdefault(sentence, self._captioned.get(sentence) or hasty(random, sentence))
            return " ".join(written[sentence] for sentence in said)

        if random.random() < 0.25:  # what is heard no more
            sentences += self._sentences(random.randint(2, 12), captioned, hard)
            stretches.append(Stretch(None, 0, noted(sentences)))
        while len(sentences) < count:
            window = None
            if heard and random.random() < 0.5:
                clips, heard = [self._clip(hard) for _ in range(random.randint(1, 4))], heard - 1
                said = [clip.text for clip in clips]
                audible.update(said)
                window = self._window([*chain.from_iterable(map(self._spoken, clips)), END])
            else:
                said = self._sentences(random.randint(1, 7), captioned, hard)
            sentences += said
            skipped = random.randint(*UNHEARD) if window is None and random.random() < 0.8 else 0
            stretches.append(Stretch(window, skipped, noted(said)))
        absent = [texts.drawn(random, self._texts) for _ in range(8)]
        asked = questions.about_speech(random, sentences, absent, 8 + len(sentences) // 2 + random.randint(0, 5))
        copied = {said: wrote for said, wrote in written.items() if said not in audible}
        return Context(tuple(stretches), tuple(replace(a, answer=copied.get(a.answer, a.answer)) for a in asked))

    def _sentences(self, count: int, captioned: bool, hard: float) -> list[str]:
        """Texts, some of them of people who say who they are.

        Args:
            captioned: half of them are of speech that Whisper wrote down.
            hard: how many of them it misheard.
        """
        random = self._random

        def drawn() -> str:
            if random.random() < hard:
                return random.choice(self._misheard).text
            if captioned and random.random() < 0.5:
                return random.choice(self._written).text
            return (texts.turn if random.random() < 0.12 else texts.drawn)(random, self._texts)

        return [drawn() for _ in range(count)]

    def _clip(self, hard: float) -> Clip:
        """Somebody who speaks; ``hard``: how many of them are misheard."""
        return self._random.choice(self._misheard if self._random.random() < hard else self._speech)

    def heard(self) -> Context:
        """Up to two minutes of sentences, many questions about them, and nothing to read."""
        random = self._random
        clips = [random.choice(self._speech) for _ in range(random.choice((2, 3, 4, 6, 8, 12, 18, 24, 32)))]
        if random.random() < 0.4 and len(self._turns) > 2:
            clips[:2] = random.sample(self._turns, 2)
            random.shuffle(clips)
        sentences = [clip.text for clip in clips]
        absent = [random.choice(self._speech).text for _ in range(5)]
        asked = questions.about_speech(random, sentences, absent, 6 + len(sentences) // 2 + random.randint(0, 4))
        if len(clips) < TRANSCRIBED and random.random() < 0.4:
            asked.append(questions.transcription(random, sentences))
        return self._only_heard(self._windows(clips), asked, self._far(0.4 if len(clips) < TRANSCRIBED else 0))

    def transcribed(self) -> Context:
        """A few sentences to write down, half of them of people."""
        clips = [
            self._random.choice(self._people if self._people and self._random.random() < 0.5 else self._speech)
            for _ in range(self._random.choice((1, 1, 1, 1, 2, 3)))
        ]
        asked = [questions.transcription(self._random, [clip.text for clip in clips])]
        if self._random.random() < 0.2:
            asked += questions.about_sound("speech")
        return self._only_heard(self._windows(clips), asked)

    def sound(self) -> Context:
        """A sound, an instrument or silence, in which nothing is said."""
        if not self._sounds or self._random.random() < 0.08:
            silence = sounds.take("silence", self._rng)
            windows: tuple[Samples, ...] = (silence[: len(silence) // FRAME * FRAME],)
            name = "silence"
        else:
            clip = self._random.choice(self._sounds)
            windows, name = self._windows([clip], gentle=True), clip.voice.partition(" ")[2]
        asked = questions.about_sound(name)
        if self._random.random() < 0.3:
            asked.append(Asked("transcribe", questions.TRANSCRIBE, ""))
        return self._only_heard(windows, asked)

    def _only_heard(self, windows: Sequence[Samples], asked: Sequence[Asked], skipped: int = 0) -> Context:
        stretches = [*(Stretch(window) for window in windows), Stretch(None, skipped)]
        return Context(tuple(stretches), tuple(asked))

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
            parts += self._spoken(clip)
        windows.append(self._window([*parts, END], gentle))
        return tuple(windows)

    def _spoken(self, clip: Clip) -> tuple[Samples, Samples]:
        """A pause, and the clip at a speed of its own."""
        pause = np.zeros(int(self._rng.uniform(0.2, 0.7) * SAMPLE_RATE), np.float32)
        return pause, augment.faster(clip.sound, self._rng.uniform(0.93, 1.08))

    def _window(self, parts: Sequence[Samples], gentle: bool = False) -> Samples:
        """One window of those sounds, 30 s at most, at some level or over some microphone."""
        samples = np.concatenate(parts)[: 30 * SAMPLE_RATE]
        samples = samples[: len(samples) // FRAME * FRAME]
        if gentle or self._rng.random() < 0.4:
            return augment.at_level(samples, self._rng.uniform(-32, -16))
        others = [self._random.choice(self._speech).sound for _ in range(2)]
        return augment.heard(self._rng, samples, others)


def hasty(random: Random, sentence: str) -> str:
    """A sentence as Whisper writes it where it hears every word: it may miss the capital, or the stop."""
    first = sentence.split(maxsplit=1)[0].strip(".,;:!?'")
    if first.istitle() and len(first) > 1 and first not in questions.PROPER and random.random() < SMALL:
        sentence = sentence[0].lower() + sentence[1:]
    return sentence.rstrip(".") if random.random() < ENDLESS else sentence
