"""CTC over token embeddings: log-probabilities of frames, loss and greedy decoding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import nn

SHARPNESS = 30.0  # factor of the cosine in a frame's scores; with 10 the distribution stays too flat


class Head:
    """Maps frames to log-probabilities over some tokens and the blank, which is the last symbol.

    Args:
        table: the language model's token embeddings, (tokens, hidden).
        blank: token whose embedding is the target of frames between words.
    """

    def __init__(self, table: torch.Tensor, blank: int) -> None:
        self._table = nn.functional.normalize(table - table.mean(0), dim=1)
        self._blank = self._table[blank]

    def __call__(self, frames: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities (batch, frames, len(ids) + 1) of centred frames (batch, frames, hidden)."""
        table = torch.cat([self._table[ids], self._blank[None]])
        cosines = nn.functional.normalize(frames.float(), dim=-1) @ table.T
        return (SHARPNESS * cosines).log_softmax(-1)


def ctc_loss(logs: torch.Tensor, lengths: torch.Tensor, said: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the CTC loss of log-probabilities (batch, frames, symbols + 1), per symbol.

    Args:
        lengths: number of frames of each item, (batch,).
        said: target symbols of each item.
    """
    targets = torch.tensor([symbol for symbols in said for symbol in symbols])
    counts = torch.tensor([len(symbols) for symbols in said])
    blank = logs.shape[-1] - 1
    losses = nn.functional.ctc_loss(
        logs.transpose(0, 1), targets, lengths, counts, blank, reduction="none", zero_infinity=True
    )
    return losses.sum() / counts.sum()


def greedy(logs: torch.Tensor, ids: torch.Tensor) -> list[int]:
    """Decode one item (frames, symbols + 1) greedily: the likeliest symbols without repeats and blanks."""
    best, blank = logs.argmax(-1).tolist(), len(ids)
    return [int(ids[token]) for token, _ in groupby(best) if token != blank]
