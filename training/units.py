"""The tokens that a frame is trained to be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch


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

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without space around it."""
        text: str = self._tokenizer.decode(tokens)
        return text.strip()
