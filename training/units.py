"""Tokens that are the CTC symbols of frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch


class Units:
    """Encodes texts in the first tokens of the tokenizer, so that rare words are split into pieces.

    Args:
        tokenizer: tokenizer of the language model.
        tokens: number of first tokens; control tokens are excluded.

    Attributes:
        ids: token ids of all units, (units,).
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
        """Encode a text, with a space before it unless it is the first."""
        ids: list[int] = self._tokenizer.encode(text if first else f" {text}", add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode tokens to text without surrounding space."""
        text: str = self._tokenizer.decode(tokens)
        return text.strip()
