"""Score texts: word errors, and confidence intervals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import sqrt

TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor"}


def bare(text: str) -> list[str]:
    """Normalise a text to words: no case, punctuation or hyphens, titles spelled out."""
    return [TITLES.get(word, word) for word in re.sub(r"[^\w\s']", " ", text.casefold()).split()]


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Return the word edit distance of two texts."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def words_wrong(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the word error rate over (said, heard) pairs."""
    wrong = sum(edits(bare(said), bare(heard)) for said, heard in pairs)
    return wrong / max(1, sum(len(bare(said)) for said, _ in pairs))


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a share."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - reach), min(1.0, middle + reach)
