"""Partial captions of the open utterance: when the next is due, and what the client gets of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Span
from af3stream.config import CaptionsConfig
from af3stream.engine.captioning import Hypothesis
from af3stream.engine.jobs import CaptionJob
from af3stream.protocol.messages import Caption
from af3stream.session.caption_line import CaptionLine
from af3stream.session.hallucinations import agreed, without_loops
from af3stream.session.ledger import seconds

ROOM: Final = 4.0  # while there is room, the distance between two partial captions is so many times what the last took
OFTEN: Final = 0.5  # the least distance, as a share of the configured one
STRETCH: Final = 2.0  # under load, the distance is at least so many times what the last took
LONGEST_S: Final = 3.0  # of new audio; load alone does not make the distance longer
STALE: Final = 2.0  # intervals; if more audio came since the last partial caption, a question waits for another
ENDINGS: Final = ".…。?!？！"  # a captioner ends every text with one; while the utterance is open, nobody said it


@dataclass(frozen=True, slots=True)
class _Running:
    """A partial caption on its way: its job, the range it hears, and when it was submitted, in clock seconds."""

    job: CaptionJob
    span: Span
    submitted: float


class PartialCaptions:
    """The partial captions of one session. At most one is on its way.

    The next is due after `captions.interim_every_s` seconds of new audio: twice as often while the engine has room, and
    less often if the last one took long. So they take at most a quarter of an engine that has little else to do, and at
    most half of it under load.

    Attributes:
        shown: whether the client gets them.
        lines: the newest of each utterance without a final caption.
        hypothesis: the newest about the open utterance; ``None`` if there is none.

    Args:
        wanted: whether the client wants them.
    """

    def __init__(self, config: CaptionsConfig, *, wanted: bool) -> None:
        self.shown = wanted and config.interims
        self.lines: dict[int, CaptionLine] = {}
        self.hypothesis: Hypothesis | None = None
        self._every = int(config.interim_every_s * SAMPLE_RATE)
        self._running: _Running | None = None
        self._heard_to = self._drafted_to = 0  # by the newest that was submitted, and by the newest that came
        self._heard: list[tuple[int, str]] = []  # of the open utterance: where the newest captions end, and their texts
        self._took_s = 0.0

    @property
    def stretched(self) -> bool:
        """Whether they come less often than configured."""
        return self.shown and STRETCH * self._took_s * SAMPLE_RATE > self._every

    @property
    def urgent(self) -> bool:
        """Whether a question waits for the one on its way."""
        return self._running is not None and self._running.job.urgent

    def awaits(self, job: CaptionJob | None) -> bool:
        """Return whether this job is on its way."""
        return self._running is not None and self._running.job is job

    def is_due(self, span: Span) -> bool:
        """Return whether one of the open utterance so far is due."""
        if not self.shown or self._running is not None:
            return False
        return span.end - max(span.start, self._heard_to) >= self._distance

    @property
    def _distance(self) -> float:
        """The new audio after which the next one is due, in samples."""
        took = self._took_s * SAMPLE_RATE
        loaded = min(STRETCH * took, LONGEST_S * SAMPLE_RATE)
        return max(OFTEN * self._every, min(ROOM * took, self._every), loaded)

    def is_stale(self, span: Span) -> bool:
        """Return whether the newest one lacks much of the open utterance so far."""
        return span.end - max(span.start, self._drafted_to) >= STALE * self._every

    def begin(self, job: CaptionJob, span: Span, now: float) -> None:
        """Note the job that captions the open utterance so far."""
        self._running = _Running(job, span, now)
        self._heard_to = span.end

    def abandon(self) -> CaptionJob | None:
        """Give up the one on its way; returns its job."""
        running, self._running = self._running, None
        return running.job if running else None

    def close(self) -> Hypothesis | None:
        """Begin with another utterance; returns the newest hypothesis about the one before."""
        hypothesis, self.hypothesis = self.hypothesis, None
        self._heard.clear()
        return hypothesis

    def take(self, job: CaptionJob, hypothesis: Hypothesis, now: float) -> list[Caption]:
        """Take the hypothesis of a job; returns the caption if the client gets it and it was not given up."""
        running = self._running
        if running is None or running.job is not job:
            return []
        self._running = None
        self._took_s = now - running.submitted
        self.hypothesis = hypothesis
        return self.show(job.utterance, running.span, hypothesis)

    def show(self, utterance: int, span: Span, hypothesis: Hypothesis) -> list[Caption]:
        """Make a hypothesis the partial caption of the open utterance; returns it if the client gets it."""
        self._drafted_to = span.end
        text = without_loops(hypothesis.text).rstrip(ENDINGS)
        if not text:
            return []
        stable = self._stable(span.end, text)
        self.lines[utterance] = CaptionLine(utterance, span.start, span.end, text)
        if not self.shown:
            return []
        caption = Caption(
            utterance,
            text,
            seconds(span.start),
            seconds(span.end),
            final=False,
            stable=stable,
            language=hypothesis.language,
        )
        return [caption]

    def _stable(self, end: int, text: str) -> str:
        """Note a text that ends here; returns its words that all texts of the configured distance before it have, too.

        Two texts closer to each other agree on words that are only half heard.
        """
        before = sum(heard <= end - self._every for heard, _ in self._heard)
        self._heard = self._heard[max(0, before - 1) :]
        stable = text if before else ""
        for _, other in self._heard:
            stable = agreed(other, stable)
        self._heard.append((end, text))
        return stable
