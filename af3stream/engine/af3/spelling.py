"""What frames spell by themselves, where they have learned to be token embeddings: a draft for next to nothing."""

from __future__ import annotations

from itertools import groupby
from typing import Final

import torch
from torch.nn.functional import normalize

BLANK: Final = 0.85  # of the likeness to the mean frame, as most frames are blank: a likeness below it is a token's


class Spelling:
    """Reads frames as connectionist temporal classification does: each one's token, repeats and blanks taken out.

    Args:
        table: the language model's token embeddings, (tokens, hidden).
        tokens: how many of the first a frame may be.
    """

    def __init__(self, table: torch.Tensor, tokens: int) -> None:
        self._mean = table.mean(0)
        self._table = normalize(table[:tokens] - self._mean, dim=1)

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor) -> list[int]:
        """Token ids of projected frames (n, hidden)."""
        ways = normalize(frames - self._mean, dim=1)
        blank = normalize(ways.mean(0), dim=0)
        likeness = torch.cat([ways @ self._table.T, BLANK * (ways @ blank)[:, None]], dim=1)
        return [token for token, _ in groupby(likeness.argmax(1).tolist()) if token < len(self._table)]
