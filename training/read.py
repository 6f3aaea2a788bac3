"""The reading stage: train adapters to read audio frames without changing the language model on text.

Encoder and projector of the alignment stage are frozen. Over captions alone, the loss is the Kullback-Leibler
divergence of the next-token distribution from that without adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from af3stream.engine.af3.prompt import encode_text, read_template
from training import questions
from training.config import Config, Read
from training.contexts import Context, Contexts
from training.model import NARROW, LogMel, adapt, encoder_states, narrow
from training.progress import Average, Progress
from training.voices import Samples

COUNTED: Final = 5  # one in so many positions of captions and questions is compared
READ: Final = "read.pt"  # in a run's folder: state of the stage


@dataclass(frozen=True)
class Prompt:
    """One question about a context, as input of the language model.

    Attributes:
        embedded: (n, hidden), including the answer.
        answer: token ids of the answer with the end token; the last ones of the prompt.
    """

    embedded: torch.Tensor
    answer: list[int]


class Reader:
    """Trains the adapters, and keeps their moving average.

    Args:
        model: model with encoder and projector of the alignment stage.
        processor: processor of the model.
        folder: folder of the run; ``corpus`` and ``validation`` hold clips.
    """

    def __init__(self, model: Any, processor: Any, folder: Path, config: Config) -> None:
        torch.manual_seed(config.seed)
        self._config: Read = config.read
        self._model, self._folder, self._seed = model, folder, config.seed
        self._tokenizer, self._template = processor.tokenizer, read_template(processor)
        self._mel = LogMel(processor.feature_extractor.mel_filters)
        self._language = model.model.language_model
        self._table: torch.Tensor = (
            self._language.embed_tokens.weight.detach().clone()
        )  # (tokens, hidden) float32; the head
        self._head = self._table.to(NARROW).T
        self._adapters = adapt(self._language)
        self._parameters = {f"language_model.{n}": p for n, p in self._language.named_parameters() if ".lora_" in n}
        for name, parameter in self._language.named_parameters():
            if ".lora_" in name:
                parameter.requires_grad_(True)
            else:
                parameter.data = parameter.data.to(NARROW)
        self._optimizer = torch.optim.AdamW(self._parameters.values(), lr=config.read.rate, weight_decay=0.0)
        self._average = Average(self._parameters, config.read.averaging)
        self._progress = Progress(folder, "read", config.read.minutes, config.read.steps, config.pause_file)
        validation = Contexts(folder / "validation", 1, held_out=True)
        self._validation = [validation.heard() for _ in range(config.read.validated)]
        self.right: dict[str, float] = {}  # share of right answers by kind, in the last validation

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return self._progress.seconds

    def run(self) -> None:
        """Train to the end of the stage, from the last saved state if there is one."""
        self._restore()
        drawn = Contexts(self._folder / "corpus", self._seed + self._progress.steps)
        while self._progress.share < 1:
            self._step(drawn)
            if self._progress.due(self._config.validate_minutes):
                self.validate()
                self._keep()
        self.validate()
        self._keep()

    def _step(self, drawn: Contexts) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.rate * self._progress.rate(self._config.warmup_steps)
        prompts, length = list[Prompt](), 0
        while length < self._config.positions:
            context = drawn.transcribed() if len(prompts) % 6 == 5 else drawn.heard()
            prompts.append(self._prompt(context, len(prompts)))
            length += len(prompts[-1].embedded)
        heard, _ = self._answers(prompts)
        heard.backward()
        kept = self._moved(drawn)
        (self._config.kept * kept).backward()
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
        if torch.isfinite(norm):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average.update(self._parameters, self._progress.steps)
        self._progress.step(len(prompts), loss=float(heard.detach()), kept=float(kept.detach()), norm=float(norm))

    def _prompt(self, context: Context, number: int) -> Prompt:
        """Build the prompt of one of a context's questions, with its answer."""
        asked = context.asked[number % len(context.asked)]
        answer = [*encode_text(self._tokenizer, asked.answer), self._tokenizer.eos_token_id]
        question = asked.question if asked.kind == "transcribe" else questions.asking(asked.question)
        pieces = [self._table[torch.tensor(self._template.head)]]
        pieces += [self._embedded(part) for part in context.parts]
        pieces += [self._embedded(question), self._table[torch.tensor([*self._template.tail, *answer])]]
        return Prompt(torch.cat(pieces), answer)

    @torch.no_grad()
    def _embedded(self, part: Samples | str) -> torch.Tensor:
        """Return a window's frames, or the embeddings of a text; (n, hidden)."""
        if isinstance(part, str):
            return self._table[torch.tensor(encode_text(self._tokenizer, part), dtype=torch.long)]
        frames: torch.Tensor = self._model.model.multi_modal_projector(encoder_states(self._model, self._mel([part])))[
            0
        ]
        return frames.float()

    def _answers(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, list[bool]]:
        """Return the mean loss of the answers' tokens, and whether each answer is the greedy one."""
        embedded = nn.utils.rnn.pad_sequence([prompt.embedded for prompt in prompts], batch_first=True)
        with narrow():
            hidden = self._language(inputs_embeds=embedded.to(NARROW), use_cache=False).last_hidden_state
            ends = [(row, len(p.embedded) - len(p.answer) - 1, len(p.embedded) - 1) for row, p in enumerate(prompts)]
            logits = torch.cat([hidden[row, first:last] for row, first, last in ends]) @ self._head
        targets = torch.tensor([token for prompt in prompts for token in prompt.answer])
        right = torch.split(logits.argmax(-1) == targets, [len(prompt.answer) for prompt in prompts])
        return nn.functional.cross_entropy(logits.float(), targets), [bool(tokens.all()) for tokens in right]

    def _moved(self, drawn: Contexts) -> torch.Tensor:
        """Return the divergence of next-token distributions over text from those without adapters."""
        ids: list[int] = []
        counted: list[int] = []  # compared positions: all of answers, a part of the rest
        while len(ids) < self._config.text_positions:
            text, answer = drawn.read()
            prompt = [*self._template.head, *encode_text(self._tokenizer, text), *self._template.tail]
            replied = encode_text(self._tokenizer, answer)
            counted += range(len(ids), len(ids) + len(prompt) - 1, COUNTED)
            counted += range(len(ids) + len(prompt) - 1, len(ids) + len(prompt) + len(replied))
            ids += [*prompt, *replied]
        embedded = self._table[torch.tensor([ids])]
        with torch.no_grad():
            before = self._distributions(embedded, counted, adapted=False)
        after = self._distributions(embedded, counted, adapted=True)
        return nn.functional.kl_div(after, before, reduction="none", log_target=True).sum(-1).mean()

    def _distributions(self, embedded: torch.Tensor, places: list[int], *, adapted: bool) -> torch.Tensor:
        for adapter in self._adapters:
            adapter.on = adapted
        with narrow():
            hidden = self._language(inputs_embeds=embedded.to(NARROW), use_cache=False).last_hidden_state[0]
            logits: torch.Tensor = hidden[places] @ self._head
        for adapter in self._adapters:
            adapter.on = True
        return logits.float().log_softmax(-1)

    @torch.no_grad()
    def validate(self) -> None:
        """Measure the share of held-out answers that are the greedy ones, with the averaged adapters."""
        last = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._load(self._average.values)
        found: dict[str, list[bool]] = {}
        for number, context in enumerate(self._validation):
            _, (right,) = self._answers([self._prompt(context, number)])
            found.setdefault(context.asked[number % len(context.asked)].kind, []).append(right)
        self._load(last)
        self.right = {kind: sum(rights) / len(rights) for kind, rights in sorted(found.items())}
        self._progress.note(**self.right)

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
