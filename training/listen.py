"""The alignment stage: train frames towards token embeddings of the spoken words, or of the name of a sound.

A frame's logits are 30 x the cosine between the projector's output and each token embedding, both centred by the mean
of the table. The target of frames between words is the embedding of a space, which the language model ignores. The
encoder comes from an earlier training and is frozen, so its states are computed once.

Rare words are split into pieces: only the tokenizer's first tokens are used, so that each occurs often enough in
training. Frequent words remain single tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from training import corpus, score
from training.config import Config, Listen
from training.corpus import Clip
from training.ctc import Head, ctc_loss, greedy
from training.model import BLANK, FRAME, PROJECTOR, LogMel, encoder_states, narrow, save
from training.progress import Average, Progress
from training.units import Units
from training.windows import Windows

LISTENED: Final = "listened.safetensors"  # in a run's folder: encoder and projector after the stage
STATES: Final = "states.pt"  # in a run's folder: encoder states of the windows
VALIDATED: Final = 40  # clips of each kind


@dataclass(frozen=True)
class Window:
    """Encoder states of one window, and its tokens.

    Attributes:
        states: (frames, d) float16.
        ids: token ids.
    """

    states: torch.Tensor
    ids: list[int]


class Listener:
    """Trains the projector, and keeps its average.

    Args:
        model: model with the frozen encoder, and the projector to train.
        processor: processor of the model.
        folder: folder of the run; ``corpus`` and ``validation`` hold clips.
    """

    def __init__(self, model: Any, processor: Any, folder: Path, config: Config) -> None:
        torch.manual_seed(config.seed)
        self._config: Listen = config.listen
        self._model, self._folder, self._seed = model, folder, config.seed
        self._tokenizer = processor.tokenizer
        self._mel = LogMel(processor.feature_extractor.mel_filters)
        self._projector = model.model.multi_modal_projector
        self._table = model.model.language_model.embed_tokens.weight.detach()
        self._centre = self._table.mean(0)
        (blank,) = self._tokenizer(BLANK, add_special_tokens=False)["input_ids"]
        self._head = Head(self._table, blank)
        self._units = Units(self._tokenizer, config.listen.units)
        self._place = {int(token): place for place, token in enumerate(self._units.ids)}
        self._rng = np.random.default_rng(config.seed)
        self._windows = sorted(self._heard(), key=lambda window: len(window.states))
        self._progress = Progress(folder, "listen", config.listen.minutes, config.listen.steps, config.pause_file)
        self._parameters = dict(self._projector.named_parameters())
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(self._parameters.values(), lr=config.listen.rate, weight_decay=0.01)
        self._average = Average(self._parameters, config.listen.averaging)
        self.wrong: dict[str, float] = {}  # word error rates of speech and of sounds, in the last validation

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return self._progress.seconds

    def run(self) -> None:
        """Train to the end of the stage, from the last saved state if there is one."""
        self._restore()
        while self._progress.share < 1:
            self._step(self._batch())
            if self._progress.due(self._config.validate_minutes):
                self._keep()
                self.validate()
        self._keep()
        self.validate()
        self._leave()

    def _heard(self) -> list[Window]:
        """Load the encoder states of the windows, and compute them if they are missing."""
        path = self._folder / STATES
        if not path.exists():
            drawn = Windows(self._folder / "corpus", self._units, self._config, self._seed)
            windows = [drawn.draw() for _ in range(self._config.windows)]
            found = [(encoder_states(self._model, self._mel([w.samples]))[0].half(), w.ids) for w in windows]
            torch.save([pair for pair in found if len(pair[0]) > len(pair[1])], path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        return [Window(states, ids) for states, ids in torch.load(path, weights_only=False)]

    def _batch(self) -> list[Window]:
        """Draw windows of similar length."""
        first = int(self._rng.integers(len(self._windows)))
        count = max(1, self._config.batch_frames // len(self._windows[first].states))
        return self._windows[max(0, first - count + 1) : first + 1]

    def _step(self, windows: Sequence[Window]) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.rate * self._progress.rate(self._config.warmup_steps)
        lengths = torch.tensor([len(window.states) for window in windows])
        states = nn.utils.rnn.pad_sequence([window.states.float() for window in windows], batch_first=True)
        with narrow():
            frames = self._projector(states).float()
        logs = self._head(frames - self._centre, self._units.ids)
        loss = ctc_loss(logs, lengths, [[self._place[token] for token in window.ids] for window in windows])
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
        if torch.isfinite(norm):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average.update(self._parameters, self._progress.steps)
        self._progress.step(len(windows), loss=float(loss.detach()), norm=float(norm))

    @torch.no_grad()
    def validate(self) -> None:
        """Measure word errors of held-out speech and sounds, with the averaged weights."""
        last = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._load(self._average.values)
        clips = corpus.spoken(self._folder / "validation")
        kinds = {
            "speech": [clip for clip in clips if clip.of_speech and not clip.of_people],
            "people": [clip for clip in clips if clip.of_people],
            "sounds": [clip for clip in clips if not clip.of_speech][::3],
        }
        pairs = {kind: self._written(found[:VALIDATED]) for kind, found in kinds.items() if found}
        self._load(last)
        self.wrong = {kind: score.words_wrong(found) for kind, found in pairs.items()}
        self._progress.note(**{f"{kind}_wrong": wrong for kind, wrong in self.wrong.items()})
        print("\n".join(f"   {said} | {heard}" for found in pairs.values() for said, heard in found[:6]), flush=True)

    def _written(self, clips: Sequence[Clip]) -> list[tuple[str, str]]:
        """Return the text of each clip, and the greedy decoding of its frames."""
        pairs = []
        for clip in clips:
            padded = np.pad(clip.sound, (0, -len(clip.sound) % FRAME))
            frames = self._projector(encoder_states(self._model, self._mel([padded])))
            logs = self._head(frames - self._centre, self._units.ids)
            pairs.append((clip.text, self._tokenizer.decode(greedy(logs[0], self._units.ids))))
        return pairs

    @torch.no_grad()
    def _leave(self) -> None:
        """Write the encoder and the averaged projector, scaled so that frames have the norm of token embeddings."""
        self._load(self._average.values)
        centre = self._centre
        frames = torch.cat([self._projector(w.states.float()) for w in self._windows[:: 1 + len(self._windows) // 100]])
        factor = (self._table - centre).norm(dim=1).mean() / (frames - centre).norm(dim=1).mean()
        last = self._projector.linear_2
        last.weight.mul_(factor)
        last.bias.sub_(centre).mul_(factor).add_(centre)
        state = self._model.model.state_dict()
        save(self._folder / LISTENED, {n: v for n, v in state.items() if n.startswith(("audio_tower.", PROJECTOR))})

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
