"""Captions of one session: partial while an utterance is open, final once it is closed, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Utterance
from af3stream.audio.pcm import Samples
from af3stream.engine.contract import Hypothesis
from af3stream.engine.jobs import CaptionJob
from af3stream.protocol.messages import Caption
from af3stream.session.hallucinations import agreed, without_loops
from af3stream.session.ledger import seconds

STRETCH = 2.0  # the pause between two partial captions is at least this many times what the last one took
STALE = 2.0  # intervals between partial captions; if more audio came since the last one, a question waits for another


@dataclass(frozen=True, slots=True)
class CaptionLine:
    """A caption and its place. Positions are samples at 16 kHz."""

    utterance: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class NeededCaptions:
    """The captions that a question waits for.

    Attributes:
        utterances: the final captions of all utterances before this one.
        draft: the job of a partial caption; ``None`` if the partial caption is recent enough.
    """

    utterances: int = 0
    draft: CaptionJob | None = None


@dataclass(frozen=True, slots=True)
class _PartialCaption:
    """A partial caption on its way: its job, the range it hears, and when it was submitted, in clock seconds."""

    job: CaptionJob
    start: int
    end: int
    submitted: float


class CaptionTrack:
    """The captions of the open utterance, and of closed ones until their windows took them as notes.

    At most one partial caption is on its way. The next is due after ``every_s`` seconds of new audio, or later if the
    last one took long.

    Attributes:
        lines: final captions with words, in order; those that are needed no more are gone (see `forget`).
        interims: whether the client wants partial captions.
    """

    def __init__(self, every_s: float, max_tokens: int, interims: bool) -> None:
        self.lines: list[CaptionLine] = []
        self.interims = interims
        self._every = int(every_s * SAMPLE_RATE)
        self._max_tokens = max_tokens
        self._waiting: dict[int, Utterance] = {}
        self._open: int = 0  # index of the open utterance, or of the next one
        self._hypothesis: Hypothesis | None = None
        self._final: dict[int, Hypothesis] = {}  # final hypotheses that wait for that of an earlier utterance
        self._drafts: dict[int, CaptionLine] = {}  # partial captions of utterances without a final one
        self._running: _PartialCaption | None = None
        self._heard_to = self._drafted_to = 0  # by the newest partial caption submitted, and by the newest that came
        self._took_s = 0.0

    @property
    def waiting(self) -> list[Utterance]:
        """The closed utterances without a final caption."""
        return [*self._waiting.values()]

    @property
    def uncaptioned(self) -> list[Utterance]:
        """The closed utterances without any caption yet."""
        return [utterance for utterance in self.waiting if utterance.index not in self._drafts]

    @property
    def oldest_waiting(self) -> Utterance | None:
        """The first closed utterance without a final caption."""
        return next(iter(self._waiting.values()), None)

    @property
    def stretched(self) -> bool:
        """Whether partial captions come less often than configured."""
        return self.interims and STRETCH * self._took_s * SAMPLE_RATE > self._every

    @property
    def drafts(self) -> list[CaptionLine]:
        """The partial captions of all utterances without a final one."""
        return [*self._drafts.values()]

    def has_finals(self, utterances: int) -> bool:
        """Return whether the final caption of every utterance before this one is there."""
        return self.oldest_waiting is None or self.oldest_waiting.index >= utterances

    def has(self, needed: NeededCaptions) -> bool:
        """Return whether these captions are there, or do not come.

        If the utterance of a draft closed meanwhile, its final caption is needed instead.
        """
        drafting = self._running is not None and self._running.job is needed.draft
        closed = needed.draft is not None and needed.draft.utterance < self._open
        return self.has_finals(needed.utterances + closed) and not drafting

    def interim_due(self, start: int, end: int) -> bool:
        """Return whether a partial caption of the open utterance, spoken up to ``end``, is due."""
        if not self.interims or self._running is not None:
            return False
        step = max(self._every, int(STRETCH * self._took_s * SAMPLE_RATE))
        return end - max(start, self._heard_to) >= step

    def is_stale(self, start: int, end: int) -> bool:
        """Return whether the partial caption of the open utterance, spoken up to ``end``, lacks too much of it."""
        return end - max(start, self._drafted_to) >= STALE * self._every

    def interim(self, start: int, end: int, samples: Samples, now: float, *, urgent: bool = False) -> CaptionJob:
        """Begin a partial caption of the open utterance; ``urgent``: a question waits for it."""
        job = self._job(self._open, samples, self._hypothesis, final=False, urgent=urgent)
        self._running = _PartialCaption(job, start, end, now)
        self._heard_to = end
        return job

    def close(self, utterance: Utterance, *, late: bool = False) -> CaptionJob:
        """Begin the final caption of a closed utterance; ``late``: far behind, so that questions go first."""
        self._waiting[utterance.index] = utterance
        draft, self._hypothesis = self._hypothesis, None
        self._open = utterance.index + 1
        return self._job(utterance.index, utterance.samples, draft, final=True, late=late)

    def abandon_interim(self) -> CaptionJob | None:
        """Give up the partial caption on its way; returns its job."""
        running, self._running = self._running, None
        return running.job if running else None

    def heard_interim(self, job: CaptionJob, hypothesis: Hypothesis, now: float) -> Caption | None:
        """Take a hypothesis about the open utterance; returns the caption if the client wants it."""
        running = self._running
        if running is None or running.job is not job:
            return None
        self._running, self._drafted_to = None, running.end
        self._took_s = now - running.submitted
        text = without_loops(hypothesis.text)
        before = self._drafts.get(self._open)
        stable = agreed(before.text if before else "", text)
        self._hypothesis = hypothesis
        if not text:
            return None
        self._drafts[self._open] = CaptionLine(self._open, running.start, running.end, text)
        if not self.interims:
            return None
        return Caption(self._open, text, seconds(running.start), seconds(running.end), final=False, stable=stable)

    def heard_final(self, job: CaptionJob, hypothesis: Hypothesis) -> list[Caption]:
        """Take the final hypothesis about an utterance; returns its caption and those that waited for it, in order."""
        self._final[job.utterance] = hypothesis
        captions: list[Caption | None] = []
        while (oldest := self.oldest_waiting) and oldest.index in self._final:
            captions.append(self._finish(self._waiting.pop(oldest.index), self._final.pop(oldest.index)))
        return [caption for caption in captions if caption is not None]

    def revise(self, revised: Sequence[CaptionLine]) -> None:
        """Replace the text of final captions; one without words is removed."""
        by_utterance = {line.utterance: line for line in revised}
        lines = [by_utterance.get(line.utterance, line) for line in self.lines]
        self.lines = [line for line in lines if line.text]

    def forget(self, position: int) -> None:
        """Drop the final captions that end at or before a position: windows have taken them as notes."""
        if self.lines and self.lines[0].end <= position:
            self.lines = [line for line in self.lines if line.end > position]

    def _job(
        self,
        utterance: int,
        samples: Samples,
        draft: Hypothesis | None,
        *,
        final: bool,
        urgent: bool = False,
        late: bool = False,
    ) -> CaptionJob:
        return CaptionJob(utterance, samples, draft, final=final, max_tokens=self._max_tokens, urgent=urgent, late=late)

    def _finish(self, utterance: Utterance, hypothesis: Hypothesis) -> Caption | None:
        """Return the final caption; ``None`` if it has no words and the client saw no partial one."""
        text = without_loops(hypothesis.text)
        drafted = self._drafts.pop(utterance.index, None)
        if text:
            self.lines.append(CaptionLine(utterance.index, utterance.start, utterance.end, text))
        if not (text or (drafted and self.interims)):
            return None
        return Caption(utterance.index, text, seconds(utterance.start), seconds(utterance.end), final=True, stable=text)
