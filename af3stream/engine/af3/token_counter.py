"""Count the positions of texts, turns and audio, from any thread."""

from __future__ import annotations

from copy import deepcopy
from threading import Lock
from typing import Any

from af3stream.engine.af3.alignment import Alignment
from af3stream.engine.af3.prompt import encode_text
from af3stream.engine.contract import Turn


class LockedTokenCounter:
    """Implements `af3stream.engine.contract.TokenCounter` with a tokenizer of its own, behind a lock.

    A tokenizer must not be used by two threads at once, and the engine's thread uses the checkpoint's.

    Args:
        tokenizer: the checkpoint's; it is copied.
        alignment: how many frames a window becomes.
        turn_overhead: positions of the template around an earlier turn.
    """

    def __init__(self, tokenizer: Any, alignment: Alignment, turn_overhead: int) -> None:
        self._tokenizer = deepcopy(tokenizer)
        self._lock = Lock()
        self._alignment = alignment
        self._turn_overhead = turn_overhead

    def frames(self, samples: int) -> int:
        """Return K, the projected frames of a window of so many samples at 16 kHz."""
        return self._alignment.frames(samples)

    def count(self, text: str) -> int:
        """Return the positions of a text."""
        with self._lock:
            return len(encode_text(self._tokenizer, text))

    def count_turn(self, turn: Turn) -> int:
        """Return the positions of an earlier turn of the chat."""
        return self._turn_overhead + self.count(turn.question) + self.count(turn.answer)
