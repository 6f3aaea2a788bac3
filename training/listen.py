"""The alignment stage: each frame learns to be the token embedding of what is said in it.

A frame's logits are 30 x the cosine between the projector's output and each token embedding, the table's mean taken
off, plus one learned blank vector. A projector that starts from nothing first learns a guessed alignment, by frame
cross-entropy, which breaks the plateau where everything is blank; CTC follows.

Whisper's own layers learn the letters beside, by a CTC of their own, which few clips teach; the layers above them make
words of what spells itself.

Rare words are written in pieces: with only the tokenizer's first merges every token is said often enough to be learned,
and frequent words are still the very tokens that the language model reads.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from af3stream.audio import SAMPLE_RATE
from training import augment, corpus, score
from training.config import Config, Listen
from training.corpus import Clip
from training.model import FRAME, WHISPER_LAYERS, Ears, LogMel, centre, frozen_names, save
from training.progress import Average, Progress
from training.voices import Samples

SHARPNESS = 30.0  # of the cosine; 10 cannot get sharp enough
BLANK_WEIGHT = 0.15  # of blank frames, in the guessed alignment
REFRESH = 100  # steps after which new shards are looked for
LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
VALIDATED = 60  # clips
NEAR = 0.5  # of the windows are heard as they were spoken
UNDERSTOOD = 0.65  # of the words wrong: better frames than that are worth reading
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


class Head(nn.Module):
    """Frames to log-probabilities over some tokens and the blank, which is the last.

    Args:
        table: the language model's token embeddings, (tokens, hidden).
    """

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self._table = nn.functional.normalize(table - table.mean(0), dim=1)
        self.blank = nn.Parameter(torch.randn(table.shape[1]) * 0.02)

    def forward(self, frames: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (batch, frames, len(ids) + 1)."""
        table = torch.cat([self._table[ids], nn.functional.normalize(self.blank, dim=0)[None]])
        cosines = nn.functional.normalize(frames.float(), dim=-1) @ table.T
        return (SHARPNESS * cosines.float()).log_softmax(-1)


class Units:
    """Texts in the tokens that a frame may be: those of the language model that its first merges make.

    Args:
        tokenizer: of the language model.
        merges: how many.

    Attributes:
        ids: all of them, (tokens,).
    """

    def __init__(self, tokenizer: Any, merges: int) -> None:
        from tokenizers import Tokenizer

        whole = json.loads(tokenizer.backend_tokenizer.to_str())
        model = whole["model"]
        model["merges"] = model["merges"][:merges]
        self._tokenizer = Tokenizer.from_str(json.dumps(whole))
        made = {"".join(pair) for pair in model["merges"]}
        self.ids = torch.tensor(sorted(i for token, i in model["vocab"].items() if len(token) == 1 or token in made))

    def encode(self, text: str, *, first: bool = False) -> list[int]:
        """Tokens of a text; with a space before it, unless it is the first."""
        ids: list[int] = self._tokenizer.encode(text if first else f" {text}", add_special_tokens=False).ids
        return ids


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
                (self._people if clip.voice.startswith("people") else self._others).append(clip)

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


def padded(clip: Clip) -> Samples:
    """A clip's sound, up to a whole number of frames."""
    return np.pad(clip.sound, (0, -len(clip.sound) % FRAME))


def spelled(text: str) -> list[int]:
    """The letters of a text, a space before each word."""
    return [LETTERS.index(letter) for letter in f" {' '.join(score.bare(text))}" if letter in LETTERS]


def ctc_loss(logs: torch.Tensor, said: Sequence[Sequence[int]]) -> torch.Tensor:
    """CTC of log-probabilities (batch, frames, symbols + 1), a symbol's share.

    Args:
        said: the symbols of each item.
    """
    targets = torch.tensor([symbol for symbols in said for symbol in symbols])
    lengths = torch.tensor([len(symbols) for symbols in said])
    frames = torch.full((len(said),), logs.shape[1])
    blank = logs.shape[-1] - 1
    losses = nn.functional.ctc_loss(
        logs.transpose(0, 1), targets, frames, lengths, blank, reduction="none", zero_infinity=True
    )
    return losses.sum() / lengths.sum()


def guess_loss(logs: torch.Tensor, windows: Sequence[Heard], place: dict[int, int]) -> torch.Tensor:
    """Cross-entropy where each token stands at its proportional place in its clip, and all else is blank."""
    blank = logs.shape[-1] - 1
    targets = torch.full(logs.shape[:2], blank)
    for row, window in zip(targets, windows, strict=True):
        tokens = iter(window.ids)
        for start, end, count in window.spans:
            for k in range(count):
                at = (start + (end - start) * (k + 0.5) / count) / FRAME
                row[min(int(at), len(row) - 1)] = place[next(tokens)]
    weights = torch.where(targets == blank, BLANK_WEIGHT, 1.0)
    losses = nn.functional.nll_loss(logs.flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def greedy(logs: torch.Tensor, ids: torch.Tensor) -> list[list[int]]:
    """The tokens of each item: the likeliest of each frame, repeats and blanks taken out."""
    best = logs.argmax(-1).tolist()
    blank = len(ids)
    return [[int(ids[token]) for token, _ in groupby(row) if token != blank] for row in best]


class Listener:
    """Trains ears and head, and keeps the average of both.

    Args:
        model: public parts, or an earlier training laid over them.
        processor: its processor.
    """

    def __init__(self, model: Any, processor: Any, folder: Path, config: Config, *, afresh: bool) -> None:
        torch.manual_seed(config.seed)
        self._config: Listen = config.listen
        self._model, self._folder = model, folder
        self._tokenizer = processor.tokenizer
        self._mel = LogMel(processor.feature_extractor.mel_filters)
        self._ears = Ears(model)
        self._head = Head(model.model.language_model.embed_tokens.weight.detach())
        width = self._ears.tower.layer_norm.normalized_shape[0]
        self._letters = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(LETTERS) + 1))  # the last is the blank
        self._bootstrap = config.listen.bootstrap_clips if afresh else 0
        self._units = Units(self._tokenizer, config.listen.merges)
        self._tokens = self._units.ids
        self._place = {int(token): i for i, token in enumerate(self._tokens)}
        self._seed = config.seed
        self._rng = np.random.default_rng(config.seed)
        self._validation = [clip for clip in corpus.spoken(folder / "validation") if not clip.voice.startswith("sound")]
        self._progress = Progress(folder, "listen", config.listen.minutes, config.listen.steps, config.pause_file)
        if not afresh:
            self._guess_blank()
        self._parameters = self._trainable()
        self._optimizer = torch.optim.AdamW(self._groups(), betas=(0.9, 0.98), weight_decay=0.01)
        self._average = Average(self._parameters, config.listen.averaging)
        self.wrong = 1.0  # of the words, in the last validation

    @property
    def seconds(self) -> float:
        """Of training."""
        return self._progress.seconds

    def run(self) -> None:
        """Train to the end of the stage, from the last state where there is one."""
        self._restore()
        seed = self._seed + self._progress.steps  # a run that goes on hears something else than it began with
        batches = Windows(self._folder / "corpus", self._units, self._config, seed).batches()
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(next, batches)
            while self._progress.share < 1:
                windows, following = following.result(), ahead.submit(next, batches)
                self._step(windows)
                if self._progress.due(self._config.validate_minutes):
                    self._keep()
                    self.validate(worth=UNDERSTOOD)
        self._keep()
        self.validate()

    @torch.no_grad()
    def _guess_blank(self) -> None:
        """An earlier training's blank, which no file keeps, is near what most frames are."""
        frames = [self._ears(self._mel([padded(clip)]))[0] for clip in self._validation[:20]]
        self._head.blank.copy_(nn.functional.normalize(torch.cat(frames), dim=1).mean(0))

    def _trainable(self) -> dict[str, torch.Tensor]:
        frozen = frozen_names(self._config.frozen_layers)
        found = {"blank": self._head.blank}
        found |= {f"tower.{n}": p for n, p in self._ears.tower.named_parameters() if not n.startswith(frozen)}
        found |= {f"projector.{n}": p for n, p in self._ears.projector.named_parameters()}
        found |= {f"letters.{n}": p for n, p in self._letters.named_parameters()}
        for parameter in found.values():
            parameter.requires_grad_(True)
        return found

    def _groups(self) -> list[dict[str, Any]]:
        """Each parameter with its learning rate: what Whisper has learned changes slowest."""
        config, groups = self._config, []
        for name, parameter in self._parameters.items():
            rate = config.new_rate
            if name.startswith(tuple(f"tower.layers.{i}." for i in range(WHISPER_LAYERS))):
                rate = config.whisper_rate
            elif name == "blank":
                rate = 5e-3
            groups.append({"params": [parameter], "lr": rate, "height": rate})
        return groups

    def _step(self, windows: Sequence[Heard]) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = group["height"] * self._progress.rate(self._config.warmup_steps)
        mels = self._mel([window.samples for window in windows])
        if self._rng.random() > NEAR:
            mels = augment.masked(self._rng, augment.throat(self._rng, mels))
        with torch.autocast("cpu", torch.bfloat16):
            sounds = self._ears.sounds(mels, self._config.frozen_layers)
            letters = self._letters(sounds).float().log_softmax(-1)
            logs = self._head(self._ears.frames(sounds), self._tokens).float()
        if self._progress.clips < self._bootstrap:
            loss = guess_loss(logs, windows, self._place)
        else:
            loss = ctc_loss(logs, [[self._place[token] for token in window.ids] for window in windows])
        spelling = ctc_loss(letters, [window.letters for window in windows])
        total = loss + self._config.letters * spelling
        total.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
        if torch.isfinite(norm):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average.update(self._parameters, self._progress.steps)
        clips = sum(len(window.spans) for window in windows)
        self._progress.step(clips, loss=float(loss.detach()), spelling=float(spelling.detach()), norm=float(norm))

    @torch.no_grad()
    def validate(self, worth: float = math.inf) -> float:
        """Words wrong on held-out texts and voices, with the averaged weights.

        Leaves them in ``listened.safetensors``, at the scale that the language model reads.

        Args:
            worth: where more words are wrong, nothing is left: such frames teach the language model not to listen.
        """
        last = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._load(self._average.values)
        people = [clip for clip in self._validation if clip.voice.startswith("people")]
        pairs, of_people = self._heard(self._validation[:VALIDATED]), self._heard(people[:VALIDATED])
        wrong = score.words_wrong(pairs)
        if wrong <= worth:
            scale_to_table(self._model, [padded(clip) for clip in self._validation[:20]], self._mel)
            save(self._model, self._folder / "listened.safetensors", self._config.frozen_layers)
        self._load(last)
        self._progress.note(words_wrong=wrong, of_people=score.words_wrong(of_people))
        self.wrong = wrong
        print("\n".join(f"   {said} | {heard}" for said, heard in pairs[:8] + of_people[:8]), flush=True)
        return wrong

    def _heard(self, clips: Sequence[Clip]) -> list[tuple[str, str]]:
        """Each clip's text, and the likeliest tokens of its frames."""
        pairs = []
        for clip in clips:
            with torch.autocast("cpu", torch.bfloat16):
                logs = self._head(self._ears(self._mel([padded(clip)])), self._tokens)
            pairs.append((clip.text, self._tokenizer.decode(greedy(logs, self._tokens)[0])))
        return pairs

    @torch.no_grad()
    def _load(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self._parameters[name].copy_(value)

    def _keep(self) -> None:
        state = {"parameters": {name: value.detach() for name, value in self._parameters.items()}}
        self._progress.save({**state, "average": self._average.values, "optimizer": self._optimizer.state_dict()})

    def _restore(self) -> None:
        if state := self._progress.restore():
            self._load(state["parameters"])
            self._average.values = state["average"]
            self._optimizer.load_state_dict(state["optimizer"])
            for group, configured in zip(self._optimizer.param_groups, self._groups(), strict=True):
                group["height"] = configured["height"]


@torch.no_grad()
def scale_to_table(model: Any, samples: Sequence[Samples], mel: LogMel) -> None:
    """Give frames the norm of centred token embeddings, and add the table's mean, so that they lie among the tokens."""
    ears, table = Ears(model), model.model.language_model.embed_tokens.weight
    frames = torch.cat([ears(mel([item]))[0] for item in samples])
    factor = (table - table.mean(0)).norm(dim=1).mean() / frames.norm(dim=1).mean()
    linear = model.model.multi_modal_projector.linear_2
    linear.weight.mul_(factor)
    linear.bias.mul_(factor).add_(centre(model))


@torch.no_grad()
def unscale(model: Any, factor: float) -> None:
    """Undo ``scale_to_table``, roughly: the mean comes off, and outputs are ``factor`` times as long."""
    linear = model.model.multi_modal_projector.linear_2
    linear.bias.sub_(centre(model)).mul_(factor)
    linear.weight.mul_(factor)
