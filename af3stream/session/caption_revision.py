"""Revise final captions by a second pass over their whole window, which hears each utterance among its neighbours."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Final

from af3stream.audio.events import Window
from af3stream.engine.contract import Hypothesis
from af3stream.engine.jobs import ReviseJob
from af3stream.session.caption_track import CaptionLine
from af3stream.session.hallucinations import bare, without_loops

MOST_AFTER_RESTART: Final = 4  # windows; as many as the credit lets wait, and no more in a journal that does not tell
LEAST_ALIKE: Final = 0.5  # of the words; a second pass that agrees on fewer skipped something, or invented it


@dataclass(frozen=True, slots=True)
class _Running:
    """The second pass on its way, and the captions that it may revise."""

    job: ReviseJob
    lines: tuple[CaptionLine, ...]


class CaptionRevision:
    """The closed windows whose captions are still to be revised, oldest first.

    One second pass is on its way at a time. It begins when all captions of its window are final. Captions that begin or
    end outside the window are left alone, and so is a window with less than two captions.

    Args:
        enabled: whether there is a second pass at all.
        max_tokens: of a second pass.
    """

    def __init__(self, *, enabled: bool, max_tokens: int) -> None:
        self._enabled = enabled
        self._max_tokens = max_tokens
        self._windows: deque[Window] = deque()
        self._running: _Running | None = None

    @property
    def oldest_pending(self) -> Window | None:
        """The first window that is still to be revised."""
        return self._windows[0] if self._windows else None

    def closed(self, window: Window) -> None:
        """Add a window that closed."""
        if self._enabled:
            self._windows.append(window)

    def skip(self, revised_to: float) -> None:
        """Leave windows that come from a journal as they are: those up to this index, and all but the newest others."""
        while self._windows and (self._windows[0].index <= revised_to or len(self._windows) > MOST_AFTER_RESTART):
            self._windows.popleft()

    def next_job(self, lines: Sequence[CaptionLine], final_before: int, *, late: bool = False) -> ReviseJob | None:
        """Return the second pass that is due, if none is on its way.

        Args:
            lines: final captions, in order.
            final_before: all captions of windows that end before this sample are final.
            late: the session is far behind.
        """
        while self._running is None and self._windows and self._windows[0].end < final_before:
            window = self._windows[0]
            inside = tuple(line for line in lines if window.start <= line.start and line.end <= window.end)
            if len(inside) > 1:
                samples = window.samples[inside[0].start - window.start : inside[-1].end - window.start]
                self._running = _Running(ReviseJob(window.index, samples, self._max_tokens, late), inside)
                return self._running.job
            self._windows.popleft()
        return None

    def revised(self, job: ReviseJob, hypothesis: Hypothesis) -> list[CaptionLine]:
        """Take the words of a second pass; returns the captions that it changes, with their new words."""
        running = self._running
        if running is None or running.job is not job:
            return []
        self._running = None
        self._windows.popleft()
        texts = distribute([line.text for line in running.lines], without_loops(hypothesis.text))
        return [replace(line, text=text) for line, text in zip(running.lines, texts, strict=True) if text != line.text]


def distribute(texts: Sequence[str], revised: str) -> list[str]:
    """Share the words of a second pass out to the utterances that it covers.

    A word goes to the utterance of the word that it equals or replaces; a word that is new, to that of the word before
    it, or of the word after it if a sentence ended between them. If fewer than half of the words agree, the texts stay.
    """
    old = [(bare(word), place) for place, text in enumerate(texts) for word in text.split()]
    words = revised.split()
    matcher = SequenceMatcher(None, [word for word, _ in old], [bare(word) for word in words], autojunk=False)
    if matcher.ratio() < LEAST_ALIKE:
        return list(texts)
    shares = [list[str]() for _ in texts]
    for _, begin, end, first, last in matcher.get_opcodes():
        for i in range(first, last):
            if end > begin:
                source = begin + (i - first) * (end - begin) // (last - first)
            else:
                sentence_ended = i == 0 or words[i - 1][-1] in ".!?"
                source = begin if sentence_ended and begin < len(old) else begin - 1
            shares[old[source][1]].append(words[i])
    return [" ".join(share) for share in shares]
