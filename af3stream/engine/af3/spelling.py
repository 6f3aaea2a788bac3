"""What frames spell where they have learned to be token embeddings: connectionist temporal classification (CTC).

A frame's tokens are scored by the cosine between it and their embeddings, the table's mean taken off both; most frames
are blank, and the mean frame says where that is. What frames spell is a draft for next to nothing, and how likely they
find a text is a second opinion on what another captioner wrote.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import torch
from torch.nn.functional import ctc_loss, normalize

SHARPNESS: Final = 30.0  # of the cosine in a frame's scores, as it was trained; 10 cannot get sharp enough
BLANK: Final = 0.85  # of the likeness to the mean frame, as most frames are blank: a likeness below it is a token's


class Units:
    """Texts in the tokens that a frame may be: the first of the tokenizer's, so that rare words come in pieces.

    Args:
        tokenizer: of the language model.
        tokens: how many of its first; control tokens are none of them.

    Attributes:
        ids: all of them, (units,).
    """

    def __init__(self, tokenizer: Any, tokens: int) -> None:
        from tokenizers import Tokenizer

        whole = json.loads(tokenizer.backend_tokenizer.to_str())
        model, controls = whole["model"], {token["content"] for token in whole["added_tokens"]}
        model["vocab"] = {t: i for t, i in model["vocab"].items() if i < tokens and t not in controls}
        model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
        whole["added_tokens"] = []
        self._tokenizer = Tokenizer.from_str(json.dumps(whole))
        self.ids = torch.tensor(sorted(model["vocab"].values()))

    def encode(self, text: str, *, first: bool = False) -> list[int]:
        """Tokens of a text; with a space before it, unless it is the first."""
        ids: list[int] = self._tokenizer.encode(text if first else f" {text}", add_special_tokens=False).ids
        return ids


class Spelling:
    """Reads frames as token embeddings.

    Args:
        table: the language model's token embeddings, (tokens, hidden).
        tokenizer: of the language model.
        tokens: how many of the first a frame may be.
    """

    def __init__(self, table: torch.Tensor, tokenizer: Any, tokens: int) -> None:
        self._units = Units(tokenizer, tokens)
        self._table, self._mean = table[:tokens], table.mean(0)
        self._lengths = (self._table - self._mean).norm(dim=1)

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor) -> list[int]:
        """The likeliest token ids of projected frames (n, hidden), repeats and blanks taken out."""
        best = self._likeness(frames).argmax(1).tolist()
        return [token for token, _ in groupby(best) if token < len(self._table)]

    @torch.inference_mode()
    def likelihoods(self, frames: torch.Tensor, texts: Sequence[str]) -> list[float]:
        """The log-probability of each text, in all its alignments with projected frames (n, hidden)."""
        said = [self._units.encode(text, first=True) for text in texts]
        units = sorted({unit for ids in said for unit in ids})
        scores = (SHARPNESS * self._likeness(frames)).log_softmax(1)[:, [*units, -1]]  # (n, units and the blank)
        losses = ctc_loss(
            scores[:, None].expand(-1, len(said), -1),
            torch.tensor([units.index(unit) for ids in said for unit in ids], device=frames.device),
            torch.full((len(said),), len(frames)),
            torch.tensor([len(ids) for ids in said]),
            blank=len(units),
            reduction="none",
        )
        likelihoods: list[float] = (-losses).tolist()
        return likelihoods

    def _likeness(self, frames: torch.Tensor) -> torch.Tensor:
        """Of each frame to each token, and to the blank, which is the last; (n, tokens + 1)."""
        ways = normalize(frames.float() - self._mean, dim=1)
        cosines = (ways @ self._table.T - (ways @ self._mean)[:, None]) / self._lengths
        blank = normalize(ways.mean(0), dim=0)
        return torch.cat([cosines, BLANK * (ways @ blank)[:, None]], dim=1)
