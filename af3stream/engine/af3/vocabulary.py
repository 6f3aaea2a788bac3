"""Make names and terms that are likely to be said likelier in greedy decoding: a prefix tree of logit bonuses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import torch

FIRST: Final = 1.0  # added to the logit of a token that begins a term; more would begin terms that nobody said
NEXT: Final = 3.0  # added to the logit of a token that goes on with a term that is begun

Node = dict[int, "Node"]


class TermTree:
    """Terms as token ids in a prefix tree.

    Args:
        terms: token ids of each; an empty one is left out.
    """

    def __init__(self, terms: Iterable[Sequence[int]]) -> None:
        self._root: Node = {}
        self._longest = 0
        for term in terms:
            node = self._root
            for token in term:
                node = node.setdefault(token, {})
            self._longest = max(self._longest, len(term))

    def bonuses(self, written: Sequence[int]) -> dict[int, float]:
        """Return what is added to the logits of the tokens that begin a term, or go on with one, after these tokens."""
        found = dict.fromkeys(self._root, FIRST)
        for start in range(max(0, len(written) - self._longest + 1), len(written)):
            node: Node | None = self._root
            for token in written[start:]:
                node = node.get(token) if node else None
            found |= dict.fromkeys(node or (), NEXT)
        return found

    def likeliest(self, logits: torch.Tensor, written: Sequence[int], guessed: Sequence[int]) -> list[int]:
        """Return the likeliest token after ``written``, and after it and each leading part of ``guessed``.

        Args:
            logits: (len(guessed) + 1, vocabulary).
        """
        raised = logits.clone()
        for place in range(len(logits)):
            bonuses = self.bonuses([*written, *guessed[:place]])
            tokens = torch.tensor(list(bonuses), dtype=torch.long, device=logits.device)
            raised[place, tokens] += torch.tensor(list(bonuses.values()), dtype=logits.dtype, device=logits.device)
        chosen: list[int] = raised.argmax(-1).tolist()
        return chosen
