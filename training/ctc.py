"""Frames as tokens: their scores, what they should be, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import nn

from training.model import FRAME
from training.windows import Heard

SHARPNESS = 30.0  # of the cosine in a frame's scores; 10 cannot get sharp enough
BLANK_WEIGHT = 0.15  # of blank frames, in the guessed alignment


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
