"""Revises final captions by a second pass over a whole window, where each utterance has its context."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Final

from af3stream.audio.events import Window
from af3stream.engine.captioning import DEFAULT_OPTIONS, CaptionOptions, Hypothesis
from af3stream.engine.jobs import ReviseJob
from af3stream.session.caption_line import CaptionLine
from af3stream.session.hallucinations import bare, without_loops
from af3stream.session.word_times import fitted, shared_out

MOST_AFTER_RESTART: Final = 4  # windows to revise; the credit lets no more wait, but an old journal does not tell
LEAST_ALIKE: Final = 0.5  # of the words; if fewer agree, the second pass left something out or invented it


@dataclass(frozen=True, slots=True)
class _Running:
    """A second pass on its way, and the captions that it may revise."""

    job: ReviseJob
    lines: tuple[CaptionLine, ...]


class CaptionRevision:
    """The closed windows whose captions are still to be revised, oldest first.

    One second pass is on its way at a time. It begins when all captions of its window are final. Captions that begin or
    end outside the window are left alone, and so is a window with less than two captions, or in several languages.

    Args:
        enabled: whether there is a second pass.
        max_tokens: of a second pass.
        options: of every second pass, but for the language, which is that of the captions.
    """

    def __init__(self, *, enabled: bool, max_tokens: int, options: CaptionOptions = DEFAULT_OPTIONS) -> None:
        self._enabled = enabled
        self._max_tokens = max_tokens
        self._options = replace(options, translate=False)
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
        """Leave restored windows as they are: those up to this index, and all but the newest of the others."""
        while self._windows and (self._windows[0].index <= revised_to or len(self._windows) > MOST_AFTER_RESTART):
            self._windows.popleft()

    def next_job(self, lines: Sequence[CaptionLine], final_before: int, *, late: bool = False) -> ReviseJob | None:
        """Begin the second pass that is due; ``None`` if none is due, or one is on its way.

        Args:
            lines: final captions, in order.
            final_before: all captions of windows that end before this sample are final.
            late: the session lags far behind.
        """
        while self._running is None and self._windows and self._windows[0].end < final_before:
            window = self._windows[0]
            inside = tuple(line for line in lines if window.start <= line.start and line.end <= window.end)
            if len(inside) > 1 and len({line.language for line in inside}) == 1:
                start = inside[0].start
                samples = window.samples[start - window.start : inside[-1].end - window.start]
                options = replace(self._options, language=inside[0].language)
                job = ReviseJob(window.index, samples, self._max_tokens, late, options, start)
                self._running = _Running(job, inside)
                return job
            self._windows.popleft()
        return None

    def revised(self, job: ReviseJob, hypothesis: Hypothesis, lines: Sequence[CaptionLine]) -> list[CaptionLine]:
        """Take the hypothesis of a second pass; returns the captions that it changes, with their new texts.

        A caption that was corrected while the pass was on its way stays as it is.

        If speakers are told apart, a caption without words in the second pass keeps those that it has: the pass hears
        several people at once, and may skip a short turn.
        """
        running = self._running
        if running is None or running.job is not job:
            return []
        self._running = None
        self._windows.popleft()
        revised = without_loops(hypothesis.text)
        texts = distribute([line.text for line in running.lines], revised)
        ranges = [(line.start, line.end) for line in running.lines]
        words = shared_out(fitted(hypothesis.words, revised, len(job.samples)), texts, ranges)
        now = {line.utterance: line for line in lines}
        return [
            replace(now[line.utterance], text=text, translation=line.translation if text else "", words=share)
            for line, text, share in zip(running.lines, texts, words, strict=True)
            if text != line.text and (text or line.speaker is None) and _same_words(line, now.get(line.utterance))
        ]


def _same_words(before: CaptionLine, now: CaptionLine | None) -> bool:
    """Return whether a caption still has the words, in the language, that it had."""
    return now is not None and (now.text, now.language) == (before.text, before.language)


def distribute(texts: Sequence[str], revised: str) -> list[str]:
    """Return the words of a second pass, divided among the utterances that it covers.

    A word goes to the utterance of the word that it equals or replaces. An inserted word goes to the utterance of the
    word before it, or of the word after it if a sentence ends between them. If fewer than half of the words agree, the
    texts stay as they are.
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
