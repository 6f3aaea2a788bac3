"""The alignment stage: each frame learns to be the token embedding of what is said in it.

A frame's logits are 30 x the cosine between the projector's output and each token embedding, the table's mean taken
off, plus one learned blank vector. A projector that starts from nothing first learns a guessed alignment, by frame
cross-entropy, which breaks the plateau where everything is blank; CTC follows.

Whisper's own layers learn the letters beside, by a CTC of their own, which few clips teach; the layers above them make
words of what spells itself.

Rare words are written in pieces: with only the tokenizer's first tokens every token is said often enough to be learned,
and frequent words are still the very tokens that the language model reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from training import augment, corpus, score
from training.config import Config, Listen
from training.corpus import Clip
from training.ctc import Head, ctc_loss, greedy, guess_loss
from training.model import FRAME, LISTENED, WHISPER_LAYERS, Ears, LogMel, centre, frozen_names, narrow, save
from training.progress import Average, Progress
from training.units import Units
from training.voices import Samples
from training.windows import LETTERS, NEAR, Heard, Windows

VALIDATED = 60  # clips
UNDERSTOOD = 0.65  # of the words wrong: better frames than that are worth reading


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
        self._units = Units(self._tokenizer, config.listen.spelled)
        self._tokens = self._units.ids
        self._place = {int(token): i for i, token in enumerate(self._tokens)}
        self._seed = config.seed
        self._rng = np.random.default_rng(config.seed)
        self._validation = [clip for clip in corpus.spoken(folder / "validation") if clip.of_speech]
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
        with narrow():
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
        people = [clip for clip in self._validation if clip.of_people]
        pairs, of_people = self._heard(self._validation[:VALIDATED]), self._heard(people[:VALIDATED])
        wrong = score.words_wrong(pairs)
        if wrong <= worth:
            scale_to_table(self._model, [padded(clip) for clip in self._validation[:20]], self._mel)
            save(self._model, self._folder / LISTENED, self._config.frozen_layers)
        self._load(last)
        self._progress.note(words_wrong=wrong, of_people=score.words_wrong(of_people))
        self.wrong = wrong
        print("\n".join(f"   {said} | {heard}" for said, heard in pairs[:8] + of_people[:8]), flush=True)
        return wrong

    def _heard(self, clips: Sequence[Clip]) -> list[tuple[str, str]]:
        """Each clip's text, and the likeliest tokens of its frames."""
        pairs = []
        for clip in clips:
            with narrow():
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


def padded(clip: Clip) -> Samples:
    """A clip's sound, up to a whole number of frames."""
    return np.pad(clip.sound, (0, -len(clip.sound) % FRAME))


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
