"""Guess the next tokens of a reply from drafts of it. A guess saves time, and never changes the reply."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile


def guess(written: Sequence[int], drafts: Sequence[Sequence[int]], most: int) -> list[int]:
    """Guess what follows: what a draft has after the place that is most like the end of what is written.

    Of equally similar places it takes the nearest. If no draft has the last token, the first draft is taken to have
    another one in its place.

    Args:
        written: token ids, not empty.
        drafts: token ids each.
        most: tokens to guess at most.
    """
    here = len(written) - 1

    def likeness(at: tuple[Sequence[int], int]) -> tuple[int, int]:
        draft, place = at
        pairs = zip(reversed(written), reversed(draft[: place + 1]), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)), -abs(place - here)

    places = [(draft, place) for draft in drafts for place, token in enumerate(draft) if token == written[-1]]
    draft, place = max(places, key=likeness, default=(drafts[0] if drafts else (), here))
    return list(draft[place + 1 : place + 1 + most])
