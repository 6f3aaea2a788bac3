"""Measure captions of any service by what a client shows: words, since when, and since when for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from af3stream.protocol.messages import Caption
from bench.words import Word, bare


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of a transcript; the service does not change it any more if it is final."""

    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class Screen:
    """The whole transcript as a client shows it after a message.

    Attributes:
        at: the time of the message, in seconds since the start of the stream.
    """

    at: float
    lines: tuple[Line, ...]

    def words(self, *, final: bool = False) -> list[str]:
        """Return the normalised words, or only those of final lines."""
        return [word for line in self.lines if line.final or not final for word in bare(line.text).split()]


def of_captions(captions: Sequence[tuple[float, Caption]]) -> list[Screen]:
    """Return the screens of our captions, given with their times of arrival in seconds."""
    lines: dict[int, Line] = {}
    screens = []
    for at, caption in captions:
        lines[caption.utterance] = Line(caption.text, caption.final)
        screens.append(Screen(at, tuple(lines[utterance] for utterance in sorted(lines))))
    return screens


def shown_since(screens: Sequence[Screen], *, final: bool = False) -> list[float | None]:
    """Return since when each word of the last screen is on every screen, in seconds; ``None``: it is not on the last.

    With ``final``, only words in final lines count.
    """
    text = screens[-1].words()
    since: list[float | None] = [None] * len(text)
    for screen in screens:
        blocks = SequenceMatcher(None, screen.words(final=final), text, autojunk=False).get_matching_blocks()
        there = {block.b + i for block in blocks for i in range(block.size)}
        since = [
            None if place not in there else screen.at if before is None else before
            for place, before in enumerate(since)
        ]
    return since


def recognised(screens: Sequence[Screen], spoken: Sequence[Word]) -> dict[int, Word]:
    """Return the spoken word of each word of the last screen that was recognised, by its place."""
    text = screens[-1].words()
    blocks = SequenceMatcher(None, [word.text for word in spoken], text, autojunk=False).get_matching_blocks()
    return {block.b + i: spoken[block.a + i] for block in blocks for i in range(block.size)}


def word_delays(screens: Sequence[Screen], spoken: Sequence[Word]) -> list[float]:
    """Return the seconds from the end of each recognised word until it is shown for good."""
    since = shown_since(screens)
    delays = [(since[place], word.end) for place, word in recognised(screens, spoken).items()]
    return [at - end for at, end in delays if at is not None]


def final_delays(screens: Sequence[Screen], spoken: Sequence[Word]) -> list[float]:
    """Return, for each final line, the seconds from the end of its last recognised word until that word is final."""
    since, known = shown_since(screens, final=True), recognised(screens, spoken)
    delays, place = [], 0
    for line in screens[-1].lines:
        places = range(place, place + len(bare(line.text).split()))
        place = places.stop
        last = max((at for at in places if at in known), default=None)
        if line.final and last is not None and (at := since[last]) is not None:
            delays.append(at - known[last].end)
    return delays
