"""Log probabilities of a caption's words, as the OpenAI API has them for tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from af3stream.protocol.messages import Caption

LEAST: Final = 0.001  # the smallest probability that a message tells apart from 0


def word_logprobs(caption: Caption, before: str = "") -> list[dict[str, Any]]:
    """Return an entry for each word of a final caption. The words of all entries together are its text.

    Args:
        before: white space that stands before the caption.

    Returns:
        Maps of ``token``, the word with the white space before it; ``logprob``, the natural logarithm of the
        captioner's probability of it; ``bytes``, the token in UTF-8. None if the captioner gave no words.
    """
    return [
        {"token": text, "logprob": round(math.log(max(probability, LEAST)), 4), "bytes": [*text.encode()]}
        for text, probability in _spaced(caption, before)
    ]


def _spaced(caption: Caption, before: str) -> Iterator[tuple[str, float]]:
    """Yield words with the white space before them, and their probabilities."""
    at = 0
    for word in caption.words:
        text = word.text.strip()
        found = caption.text.find(text, at)
        assert found >= 0, "the words of a caption are those of its text"
        yield before + caption.text[at:found] + text, word.probability
        at, before = found + len(text), ""
