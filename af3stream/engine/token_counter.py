"""Count the positions of texts, turns and audio, in any process. Nothing here imports torch or transformers."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from af3stream.engine.af3.alignment import Alignment

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from af3stream.engine.contract import Turn

SAMPLES_A_FRAME: Final = 640  # 25 frames a second at 16 kHz


class TokenizerCounter(Struct, frozen=True, tag=True):
    """Implements `af3stream.engine.contract.TokenCounter` with a checkpoint's tokenizer.

    Attributes:
        tokenizer: the content of `tokenizer.json`, compressed by zlib.
        alignment: how many frames a window becomes.
        turn_overhead: positions of the template around an earlier turn.
    """

    tokenizer: bytes
    alignment: Alignment
    turn_overhead: int

    @classmethod
    def of(cls, tokenizer: Any, alignment: Alignment, turn_overhead: int) -> TokenizerCounter:
        """Return the counter of transformers' tokenizer, ready to count."""
        written = tokenizer.backend_tokenizer.to_str().encode()
        counter = cls(zlib.compress(written, level=1), alignment, turn_overhead)
        counter.load()
        return counter

    def load(self) -> None:
        """Load the tokenizer now, a second or two, and not at the first count."""
        _loaded(self.tokenizer)

    def frames(self, samples: int) -> int:
        """Return K, the projected frames of a window of so many samples at 16 kHz."""
        return self.alignment.frames(samples)

    def count(self, text: str) -> int:
        """Return the positions of a text. A control token that it spells counts as plain characters."""
        return len(_loaded(self.tokenizer).encode(text, add_special_tokens=False))

    def count_turn(self, turn: Turn) -> int:
        """Return the positions of an earlier turn of the chat."""
        return self.turn_overhead + self.count(turn.question) + self.count(turn.answer)


class WordCounter(Struct, frozen=True, tag=True):
    """Implements `af3stream.engine.contract.TokenCounter`: one position for a word, and for 40 ms of audio."""

    def load(self) -> None:
        """Do nothing."""

    def frames(self, samples: int) -> int:
        """Return the frames of a window of so many samples at 16 kHz."""
        return samples // SAMPLES_A_FRAME

    def count(self, text: str) -> int:
        """Return the number of words."""
        return len(text.split())

    def count_turn(self, turn: Turn) -> int:
        """Return the number of words."""
        return self.count(turn.question) + self.count(turn.answer)


@lru_cache(maxsize=4)
def _loaded(tokenizer: bytes) -> Tokenizer:
    """Load a tokenizer once in a process. It is not changed afterwards, so several threads may use it."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_str(zlib.decompress(tokenizer).decode())
    loaded.no_truncation()
    loaded.no_padding()
    loaded.encode_special_tokens = True
    return loaded
