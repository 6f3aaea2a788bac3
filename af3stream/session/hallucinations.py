"""Finds words that a speech recogniser invents when it repeats itself. Pure text."""

from __future__ import annotations

import re
from typing import Final

LONGEST_LOOP: Final = 12  # words
PIECES: Final = re.compile(r"[^ -]*[ -]+|[^ -]+")  # words, each with the separator after it
REPEATS: Final = 4  # of a phrase in a row; people say a thing twice or three times


def without_loops(text: str) -> str:
    """Return a text with each phrase that is repeated four times or more said once. Hyphens separate words, too."""
    words = PIECES.findall(" ".join(text.split()))
    for length in range(1, LONGEST_LOOP + 1):
        i = 0
        while i + length * REPEATS <= len(words):
            phrase = [bare(word) for word in words[i : i + length]]
            repeats = 1
            while [bare(word) for word in words[i + repeats * length : i + (repeats + 1) * length]] == phrase:
                repeats += 1
            if repeats >= REPEATS:
                del words[i + length : i + repeats * length]
            i += 1
    kept = "".join(words).rstrip()
    return kept if text.endswith("-") else kept.rstrip("-")


def agreed(previous: str, current: str) -> str:
    """Return the leading words of ``current`` that ``previous`` has too, as ``current`` spells them."""
    count = 0
    for before, after in zip(map(bare, previous.split()), map(bare, current.split()), strict=False):
        if before != after:
            break
        count += 1
    words = current.split(" ")
    return " ".join(words[:count])


def bare(word: str) -> str:
    """Return a word without the punctuation around it, and without case."""
    return word.strip(".,;:!?\"' -").casefold()
