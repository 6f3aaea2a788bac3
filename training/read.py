"""The reading stage: the language model learns, through adapters, to answer from frames and from notes.

What is above Whisper's layers, and the projector, learn on from what the language model makes of their frames: that
costs next to nothing, as its gradients come so far anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from af3stream.engine.af3.prompt import read_template
from training import captioned
from training.config import Config
from training.contexts import Context, Contexts, Layout, lay_out
from training.model import FRAME, LISTENED, NARROW, WHISPER_LAYERS, Ears, LogMel, digest, frozen_names, lay_over, narrow
from training.progress import Average, Progress
from training.units import Units
from training.voices import Samples


class Reader:
    """Trains the adapters and the upper ears, and keeps their average in ``read.pt``.

    Args:
        model: with adapters, and the encoder and projector of the alignment stage.
        processor: its processor.
    """

    def __init__(self, model: Any, processor: Any, folder: Path, config: Config) -> None:
        torch.manual_seed(config.seed)
        self._config, self._model, self._folder = config.read, model, folder
        self._notes, self._heard_at, self._listened = 1.0, 0.0, ""
        self._tokenizer, self._template = processor.tokenizer, read_template(processor)
        self._mel, self._ears = LogMel(processor.feature_extractor.mel_filters), Ears(model)
        self._units = Units(self._tokenizer, config.listen.spelled)
        self._language = model.model.language_model
        self._table = self._language.embed_tokens.weight.detach()  # (tokens, hidden), also the head
        self._seed = config.seed
        held_out = folder / "validation"
        validation = Contexts(held_out, 1, held_out=True, captioned=captioned.load(held_out))
        self._validation = [validation.draw(reading=0.4) for _ in range(config.read.validated)]
        self._progress = Progress(folder, "read", config.read.minutes, config.read.steps, config.pause_file)
        adapters = {f"language_model.{n}": p for n, p in self._language.named_parameters() if ".lora_" in n}
        self._upper_ears = upper_ears(model)
        self._parameters = adapters | self._upper_ears
        for name, parameter in self._language.named_parameters():
            if ".lora_" not in name:
                parameter.data = parameter.data.to(NARROW)
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        self._rates = config.read.rate, config.read.ears_rate
        parts = zip((adapters, self._upper_ears), self._rates, strict=True)
        groups = [{"params": list(part.values()), "lr": rate, "height": rate} for part, rate in parts]
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
        self._average = Average(self._parameters, config.read.averaging)
        self.right: dict[str, float] = {}  # of the answers, by kind, in the last validation

    @property
    def seconds(self) -> float:
        """Of training."""
        return self._progress.seconds

    def _hear_better(self) -> None:
        """Take the encoder and the projector that the alignment stage left last; until there are any, only read."""
        path = self._folder / LISTENED
        if path.exists() and (written := path.stat().st_mtime) > self._heard_at:
            lay_over(self._model, path)
            self._average.values |= {name: value.detach().clone() for name, value in self._upper_ears.items()}
            self._notes, self._heard_at, self._listened = self._config.notes, written, digest(path)

    def run(self) -> None:
        """Train to the end of the stage, from the last state where there is one."""
        self._hear_better()
        self._restore()
        if not self._progress.steps:
            self.validate()
        seed = self._seed + self._progress.steps  # a run that goes on draws others than it began with
        folder = self._folder / "corpus"
        drawn = Contexts(folder, seed, captioned=captioned.load(folder))
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(drawn.draw, self._notes)
            while self._progress.share < 1:
                contexts, length = list[Context](), 0
                while length < self._config.positions:
                    contexts.append(following.result())
                    length += self._length(contexts[-1])
                    following = ahead.submit(drawn.draw, self._notes)
                self._step(contexts)
                self._hear_better()
                if self._progress.due(self._config.validate_minutes):
                    self.validate()
                    self._keep()
        self.validate()
        self._keep()

    def _length(self, context: Context) -> int:
        """Positions, about."""
        read = sum(len(stretch.notes) for stretch in context.stretches)
        return sum(len(window) for window in context.windows) // FRAME + read // 4 + 30 * len(context.asked)

    def _step(self, contexts: Sequence[Context]) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = group["height"] * self._progress.rate(self._config.warmup_steps)
        loss, _ = self._losses(contexts)
        loss.backward()
        norm, ears_norm = (nn.utils.clip_grad_norm_(group["params"], 1.0) for group in self._optimizer.param_groups)
        if torch.isfinite(norm + ears_norm):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average.update(self._parameters, self._progress.steps)
        self._progress.step(len(contexts), loss=float(loss.detach()), norm=float(norm), ears_norm=float(ears_norm))

    def _losses(self, contexts: Sequence[Context]) -> tuple[torch.Tensor, list[tuple[Layout, torch.Tensor]]]:
        """The mean loss of all answers, and of each context its layout and which of its answer tokens are right.

        Contexts stand in one sequence, and none sees another. An answer of k tokens weighs as the root of k.
        """
        end = self._tokenizer.eos_token_id
        layouts = [lay_out(context, self._template, self._tokenizer, self._units, end) for context in contexts]
        ids = torch.cat([layout.ids for layout in layouts])
        embedded = self._table[ids.clamp(min=0)].to(NARROW)
        embedded[ids < 0] = self._frames([w for context in contexts for w in context.windows]).to(NARROW)
        masks = [layout.mask().to(NARROW) for layout in layouts]
        with narrow():
            hidden = self._language(
                inputs_embeds=embedded[None],
                position_ids=torch.cat([layout.positions for layout in layouts])[None],
                attention_mask=masks[0],  # transformers makes none of its own then
                masks=masks,
                use_cache=False,
            ).last_hidden_state[0]
            places = torch.cat([layout.answers for layout in layouts]).nonzero()[:, 0]
            logits = hidden[places - 1] @ self._table.to(NARROW).T
        targets = ids[places]
        losses = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        weights = torch.cat([layout.weights() for layout in layouts])
        right = torch.split(logits.argmax(-1) == targets, [int(layout.answers.sum()) for layout in layouts])
        return (losses * weights).sum() / weights.sum(), list(zip(layouts, right, strict=True))

    def _frames(self, windows: Sequence[Samples]) -> torch.Tensor:
        """Projected frames of all windows, (n, hidden)."""
        with narrow():
            frames = [self._ears(self._mel([window]), WHISPER_LAYERS)[0].float() for window in windows]
        return torch.cat(frames) if frames else self._table.new_empty(0, self._table.shape[1])

    @torch.no_grad()
    def validate(self) -> None:
        """The loss, and the share of held-out answers whose every token is the likeliest, with the average."""
        last = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._load(self._average.values)
        right: dict[str, list[bool]] = defaultdict(list)
        total = 0.0
        for context in self._validation:
            loss, ((layout, tokens),) = self._losses([context])
            total += float(loss) / len(self._validation)
            branches = layout.branches[layout.answers]
            for number, asked in enumerate(context.asked, start=1):
                how = "read" if context.notes else "heard"
                right[f"{asked.kind}_{how}"].append(bool(tokens[branches == number].all()))
        self._load(last)
        self.right = {kind: sum(found) / len(found) for kind, found in sorted(right.items())}
        self._progress.note(validation=total, **self.right)

    @torch.no_grad()
    def _load(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self._parameters[name].copy_(value)

    def _keep(self) -> None:
        self._progress.save(
            {
                "parameters": {name: value.detach() for name, value in self._parameters.items()},
                "average": self._average.values,
                "optimizer": self._optimizer.state_dict(),
                "listened": self._listened,
            }
        )

    def _restore(self) -> None:
        if state := self._progress.restore():
            values, average = state["parameters"], state["average"]
            if state["listened"] != self._listened:  # those ears have learned more since
                values, average = ({n: v for n, v in part.items() if ".lora_" in n} for part in (values, average))
            self._load(values)
            self._average.values |= average
            self._optimizer.load_state_dict(state["optimizer"])
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                group["height"] = rate


def upper_ears(model: Any) -> dict[str, nn.Parameter]:
    """What learns on in the reading stage: layers above Whisper's, and the projector; by the model's own names."""
    lower = tuple(f"audio_tower.{name}" for name in frozen_names(WHISPER_LAYERS))
    named = model.model.named_parameters()
    return {
        n: p for n, p in named if n.startswith(("audio_tower.", "multi_modal_projector.")) and not n.startswith(lower)
    }
