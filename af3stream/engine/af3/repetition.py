"""The rule that ends a reply that repeats itself. The reference `generate` of the tests is given the same rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PERIOD: Final = 32  # tokens of the longest phrase that counts: a long sentence
TIMES: Final = 3  # in a row: an answer may say a sentence twice, for emphasis or as a quote
LEAST: Final = 24  # tokens of the whole run: people do say "no, no, no", and numbers have zeros in a row


def repeats(tokens: Sequence[int]) -> bool:
    """Return whether a reply ends in a loop.

    It does if its last tokens are one phrase of 1 to ``PERIOD`` tokens, ``TIMES`` times or more in a row, and these
    are ``LEAST`` tokens or more.

    Args:
        tokens: the ids that were generated so far, without the prompt.
    """
    longest = min(PERIOD, len(tokens) // TIMES)
    return any(_period(tokens, period, max(period * TIMES, LEAST)) for period in range(1, longest + 1))


def _period(tokens: Sequence[int], period: int, run: int) -> bool:
    """Return whether the last ``run`` tokens repeat after each ``period``."""
    end = len(tokens)
    return end >= run and all(tokens[at] == tokens[at - period] for at in range(end - 1, end - run + period - 1, -1))
