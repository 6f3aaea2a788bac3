"""Has utterances captioned: partial captions while one is open, final ones once it is closed, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Span, Utterance
from af3stream.audio.pcm import Samples
from af3stream.config import Config
from af3stream.engine.contract import Hypothesis, TimedWord
from af3stream.engine.jobs import CaptionJob, Failed, Result
from af3stream.metrics import Metrics
from af3stream.protocol.messages import Caption, ServerMessage
from af3stream.session.hallucinations import agreed, without_loops
from af3stream.session.job_tracker import JobTracker
from af3stream.session.ledger import Arrivals, seconds
from af3stream.session.load_shedder import DROP_INTERIMS_LAG_S
from af3stream.session.server_messages import failure

STRETCH = 2.0  # the pause between two partial captions is at least this many times what the last one took
STALE = 2.0  # intervals between partial captions; if more audio came since the last one, a question waits for another


@dataclass(frozen=True, slots=True)
class CaptionLine:
    """A caption and its place. Positions are samples at 16 kHz.

    Attributes:
        language: a code; ``None`` where the captioner does not say.
        translation: in English, where it was asked for.
        words: with their times, where they were asked for; these count from ``start``.
        speaker: 1, 2, ...; ``None`` where it is not known.
    """

    utterance: int
    start: int
    end: int
    text: str
    language: str | None = None
    translation: str = ""
    words: tuple[TimedWord, ...] = ()
    speaker: int | None = None


@dataclass(frozen=True, slots=True)
class _PartialCaption:
    """A partial caption on its way: its job, the range it hears, and when it was submitted, in clock seconds."""

    job: CaptionJob
    start: int
    end: int
    submitted: float


class CaptionTrack:
    """The captions of the open utterance, and of closed ones until their windows took them as notes.

    At most one partial caption is on its way. The next is due after `captions.interim_every_s` seconds of new audio, or
    later if the last one took long.

    Attributes:
        lines: final captions with words, in order; those that are needed no more are gone (see `forget`).
        interims: whether the client gets partial captions.

    Args:
        interims: whether the client wants partial captions.
        jobs: where jobs for the captioner go.
    """

    def __init__(self, config: Config, *, interims: bool, jobs: JobTracker, metrics: Metrics) -> None:
        self.lines: list[CaptionLine] = []
        self.interims = interims and config.captions.interims
        self._every = int(config.captions.interim_every_s * SAMPLE_RATE)
        self._max_tokens = config.captions.max_tokens
        self._pad = config.audio.speech_pad_ms * SAMPLE_RATE // 1_000
        self._jobs = jobs
        self._metrics = metrics
        self._arrivals = Arrivals()
        self._waiting: dict[int, Utterance] = {}
        self._open: int = 0  # index of the open utterance, or of the next one
        self._hypothesis: Hypothesis | None = None
        self._final: dict[int, Hypothesis] = {}  # final hypotheses that wait for that of an earlier utterance
        self._drafts: dict[int, CaptionLine] = {}  # partial captions of utterances without a final one
        self._running: _PartialCaption | None = None
        self._heard_to = self._drafted_to = 0  # by the newest partial caption submitted, and by the newest that came
        self._took_s = 0.0

    # ---- queries -----------------------------------------------------------------------------------------------------

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

    def has(self, utterances: int, draft: CaptionJob | None) -> bool:
        """Return whether the final captions of the utterances before this one, and a partial one, are there.

        Args:
            draft: the job of the partial caption, if one is needed. It counts as there if it failed. If its utterance
                closed meanwhile, the final caption is needed instead.
        """
        drafting = self._running is not None and self._running.job is draft
        closed = draft is not None and draft.utterance < self._open
        return self.has_finals(utterances + closed) and not drafting

    def interim_is_due(self, span: Span) -> bool:
        """Return whether a partial caption of the open utterance so far is due."""
        if not self.interims or self._running is not None:
            return False
        step = max(self._every, int(STRETCH * self._took_s * SAMPLE_RATE))
        return span.end - max(span.start, self._heard_to) >= step

    def is_stale(self, span: Span) -> bool:
        """Return whether the partial caption lacks much of the open utterance so far."""
        return span.end - max(span.start, self._drafted_to) >= STALE * self._every

    def are_late(self, position: int) -> bool:
        """Return whether final captions lag so far behind that other work goes first."""
        return seconds(self._jobs.lag(position, CaptionJob)) > DROP_INTERIMS_LAG_S

    # ---- commands ----------------------------------------------------------------------------------------------------

    def arrived(self, position: int, now: float) -> None:
        """Note that all audio before a position arrived by ``now``."""
        self._arrivals.note(position, now)

    def draft(self, span: Span, samples: Samples, now: float, *, urgent: bool = False) -> CaptionJob:
        """Have the open utterance captioned so far; returns the job. It replaces the one on its way.

        Args:
            urgent: a question waits for it.
        """
        self._abandon_draft()
        job = self._job(self._open, samples, self._hypothesis, final=False, urgent=urgent)
        self._running = _PartialCaption(job, span.start, span.end, now)
        self._heard_to = span.end
        self._jobs.submit(job)
        return job

    def close(self, utterance: Utterance, position: int) -> None:
        """Have a closed utterance captioned for good, instead of the partial caption on its way."""
        self._abandon_draft()
        self._waiting[utterance.index] = utterance
        draft, self._hypothesis = self._hypothesis, None
        self._open = utterance.index + 1
        late = self.are_late(position)
        self._jobs.submit(self._job(utterance.index, utterance.samples, draft, final=True, late=late), position)

    def complete(self, job: CaptionJob, result: Result, now: float) -> list[ServerMessage]:
        """Take a result of a caption job; returns the captions that it makes, and a message about a failure."""
        messages: list[ServerMessage] = []
        if isinstance(result, Failed):
            if job.final and self._jobs.retry(job, result):
                return []
            if job.final:
                messages.append(failure(f"utterance {job.utterance} could not be captioned", result))
            result = Hypothesis("")
        assert isinstance(result, Hypothesis)
        captions = self.take_final(job, result) if job.final else self._take_draft(job, result, now)
        for caption in captions:
            self._measure(caption, now)
        if job.final:
            self._metrics.utterances.inc()
        return [*messages, *captions]

    def take_final(self, job: CaptionJob, hypothesis: Hypothesis) -> list[Caption]:
        """Take the final hypothesis about an utterance; returns its caption and those that waited for it, in order."""
        self._jobs.finish(job)
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

    def _take_draft(self, job: CaptionJob, hypothesis: Hypothesis, now: float) -> list[Caption]:
        """Take a hypothesis about the open utterance; returns the caption if the client gets it."""
        self._jobs.finish(job)
        running = self._running
        if running is None or running.job is not job:
            return []
        self._running, self._drafted_to = None, running.end
        self._took_s = now - running.submitted
        text = without_loops(hypothesis.text)
        before = self._drafts.get(self._open)
        stable = agreed(before.text if before else "", text)
        self._hypothesis = hypothesis
        if text:
            self._drafts[self._open] = CaptionLine(self._open, running.start, running.end, text)
        if not (text and self.interims):
            return []
        return [Caption(self._open, text, seconds(running.start), seconds(running.end), final=False, stable=stable)]

    def _abandon_draft(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            self._jobs.cancel(running.job)

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

    def _measure(self, caption: Caption, now: float) -> None:
        """Observe the time from the audio's arrival to its caption."""
        end = round(caption.end * SAMPLE_RATE)
        arrived = self._arrivals.at(end)
        if arrived is None:
            return
        self._metrics.word_delay.labels("final" if caption.final else "interim").observe(now - arrived)
        if caption.final:
            self._metrics.final_delay.observe(now - (self._arrivals.at(end - self._pad) or arrived))
