"""Has utterances captioned: partial captions while one is open, final ones once it is closed, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Span, Utterance
from af3stream.audio.pcm import Samples
from af3stream.config import Config
from af3stream.engine.captioning import CaptionOptions, Hypothesis
from af3stream.engine.jobs import CaptionJob, Failed, Result, VoiceJob
from af3stream.metrics import Metrics
from af3stream.protocol.messages import Caption, CaptionUpdate, ServerMessage
from af3stream.session.caption_delays import CaptionDelays
from af3stream.session.caption_languages import CaptionLanguages
from af3stream.session.caption_line import CaptionLine, caption_line, final_caption, update
from af3stream.session.early_final import EarlyFinal
from af3stream.session.job_tracker import JobTracker
from af3stream.session.ledger import seconds
from af3stream.session.load_shedder import DROP_INTERIMS_LAG_S
from af3stream.session.partial_captions import PartialCaptions
from af3stream.session.server_messages import failure
from af3stream.session.session_traces import SessionTraces
from af3stream.session.speakers import REMEMBERED
from af3stream.session.utterance_queue import UtteranceQueue


class CaptionTrack:
    """The captions of the open utterance, and of closed ones until their windows took them as notes.

    Attributes:
        lines: final captions with words, in order; those that are needed no more are gone (see `forget`).
        partial: the partial captions.
        delays: how long captions take.

    Args:
        interims: whether the client wants partial captions.
        languages: decides in which language an utterance is captioned.
        jobs: where jobs for the captioner go.
        traces: of the utterances; ``None``: they are not traced.
    """

    def __init__(
        self,
        config: Config,
        *,
        interims: bool,
        languages: CaptionLanguages,
        jobs: JobTracker,
        metrics: Metrics,
        traces: SessionTraces | None = None,
    ) -> None:
        self.lines: list[CaptionLine] = []
        self.partial = PartialCaptions(config.captions, wanted=interims)
        self.delays = CaptionDelays(config.audio.speech_pad_ms * SAMPLE_RATE // 1_000, metrics)
        self._max_tokens = config.captions.max_tokens
        self._languages = languages
        self._jobs = jobs
        self._metrics = metrics
        self._traces = traces
        self._queue = UtteranceQueue()
        self._final: dict[int, Hypothesis] = {}  # final hypotheses that wait for that of an earlier utterance
        # Of the newest closed utterances, which may be divided: the draft, and when the utterance closed.
        self._held: deque[tuple[Hypothesis | None, float]] = deque()
        self._speakers: dict[int, int] = {}  # of utterances without a final caption
        self._told: dict[int, int | None] = {}  # speakers of the newest utterances with a final caption
        self._early = EarlyFinal()

    # ---- queries -----------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> list[Utterance]:
        """The closed utterances without a final caption."""
        return self._queue.all

    @property
    def uncaptioned(self) -> list[Utterance]:
        """The closed utterances without any caption yet."""
        captioned = self.partial.lines.keys() | self._languages.correcting
        return [utterance for utterance in self.waiting if utterance.index not in captioned]

    @property
    def oldest_waiting(self) -> Utterance | None:
        """The first closed utterance without a final caption."""
        return self._queue.oldest

    def has_finals(self, utterances: int) -> bool:
        """Return whether the final caption of every utterance before this one is there, and no correction is due."""
        oldest = self.oldest_waiting
        if oldest is not None and oldest.index in self._languages.correcting:
            return False
        return not self._queue.closed_before(utterances)

    def has(self, utterances: int, draft: CaptionJob | None) -> bool:
        """Return whether the final captions of the utterances before this one, and a partial one, are there.

        Args:
            draft: the job of the partial caption, if one is needed. It counts as there if it failed. If its utterance
                closed meanwhile, the final caption is needed instead.
        """
        closed = draft is not None and draft.utterance < self._queue.open
        return self.has_finals(utterances + closed) and not (draft and self.partial.awaits(draft))

    def partial_is_due(self, span: Span) -> bool:
        """Return whether a partial caption of the open utterance so far is due."""
        return not self._held and self.partial.is_due(span)

    def is_stale(self, span: Span) -> bool:
        """Return whether the partial caption lacks much of the open utterance so far."""
        return not self._held and self.partial.is_stale(span)

    def are_late(self, position: int) -> bool:
        """Return whether final captions lag so far behind that other work goes first."""
        lag = max(self._jobs.lag(position, CaptionJob), self._jobs.lag(position, VoiceJob))
        return seconds(lag) > DROP_INTERIMS_LAG_S

    @property
    def oldest_held(self) -> int:
        """The number of the oldest utterance that may still be divided, or of the next one."""
        return self._queue.oldest_held

    # ---- commands ----------------------------------------------------------------------------------------------------

    def draft(self, span: Span, samples: Samples, now: float, *, urgent: bool = False) -> CaptionJob:
        """Have the open utterance captioned so far; returns the job. It replaces the one on its way.

        Args:
            urgent: a question waits for it.
        """
        self._abandon_draft()
        utterance, options = Utterance(self._queue.open, span.start, span.end, samples), self._languages.partial
        job = self._job(utterance, self.partial.hypothesis, options, final=False, urgent=urgent)
        self.partial.begin(job, span, now)
        self._jobs.submit(job)
        return job

    def early_is_due(self, span: Span) -> bool:
        """Return whether the final caption of an utterance is to begin in its pause now.

        It is not if it has begun, or if the captioner has more urgent work.
        """
        return not (self._queue or self.partial.urgent or self._early.begun(span))

    def begin_final(self, span: Span, samples: Samples) -> None:
        """Begin the final caption of the open utterance in its pause, as it will be if the pause holds."""
        utterance = Utterance(self._queue.open, span.start, span.end, samples)
        self._abandon_draft()
        self.abandon_final()
        if self._traces:
            self._traces.heard(utterance.index, self.delays.arrival(utterance.start))
        job = self._job(utterance, self.partial.hypothesis, self._languages.final, final=True)
        self._early.begin(job, utterance)
        self._jobs.submit(job)

    def abandon_final(self) -> None:
        """Give up the final caption that was begun in a pause: the voice goes on."""
        if job := self._early.abandon():
            self._jobs.cancel(job)

    def close(self, utterance: Utterance, position: int) -> Sequence[Caption | CaptionUpdate]:
        """Have a closed utterance captioned for good; returns the final caption if it was made in the pause."""
        self._abandon_draft()
        draft = self.partial.close()
        return self._caption(self._queue.add(utterance), draft, self.delays.now, position)

    def _caption(
        self, utterance: Utterance, draft: Hypothesis | None, closed_at: float, position: int
    ) -> Sequence[Caption | CaptionUpdate]:
        """Have an utterance that waits captioned for good; returns the final caption if it was made in the pause.

        Args:
            closed_at: when its pause ended, in clock seconds.
        """
        if self._traces:
            self._traces.heard(utterance.index, self.delays.arrival(utterance.start), closed_at)
        if early := self._early.take(utterance):
            job, hypothesis = early
            self._jobs.make_due(job, position)
            return [] if hypothesis is None else self.delays.observed(self.take_final(job, hypothesis), self.delays.now)
        self.abandon_final()
        late, options = self.are_late(position), self._languages.final
        self._jobs.submit(self._job(utterance, draft, options, final=True, late=late), position)
        return []

    def hold(self, utterance: Utterance) -> None:
        """Take a closed utterance that is captioned once `divide` says what its parts are.

        Until then the number of what follows it is not known, so there are no partial captions.
        """
        self._abandon_draft()
        self._held.append((self.partial.close(), self.delays.now))
        self._queue.add(utterance, hold=True)

    def divide(self, parts: Sequence[tuple[Utterance, int | None]], position: int) -> Sequence[Caption | CaptionUpdate]:
        """Have the parts of the oldest held utterance captioned, each with its speaker.

        The first part has the number of the whole. The utterances behind it move on by the number of other parts.

        Returns:
            The final caption of an utterance that is not divided, if it was made in the pause.
        """
        draft, closed_at = self._held.popleft()
        numbered = self._queue.divide([part for part, _ in parts])
        captions: list[Caption | CaptionUpdate] = []
        for utterance, (_, speaker) in zip(numbered, parts, strict=True):
            if speaker is not None:
                self._speakers[utterance.index] = speaker
            captions += self._caption(utterance, draft if len(parts) == 1 else None, closed_at, position)
        return captions

    def correct_speaker(self, utterance: int, speaker: int) -> bool:
        """Give an utterance another speaker; returns whether its final caption was told with the one before."""
        if utterance in self._queue:
            self._speakers[utterance] = speaker
        self.revise([replace(line, speaker=speaker) for line in self.lines if line.utterance == utterance])
        if utterance not in self._told:
            return False
        self._told[utterance] = speaker
        return True

    def complete(self, job: CaptionJob, result: Result, now: float) -> list[ServerMessage]:
        """Take a result of a caption job; returns the captions that it makes, and a message about a failure."""
        messages: list[ServerMessage] = []
        if job.final and not (job.again or self._jobs.is_due(job)):
            return [*self.delays.observed(self._take_early(job, result), now)]
        if isinstance(result, Failed):
            if job.final and self._jobs.retry(job, result):
                return []
            if job.final:
                messages.append(failure(f"utterance {job.utterance} could not be captioned", result))
            result = Hypothesis("")
        assert isinstance(result, Hypothesis)
        captions = self.take_final(job, result) if job.final else self._take_partial(job, result, now)
        return [*messages, *self.delays.observed(captions, now)]

    def take_final(self, job: CaptionJob, hypothesis: Hypothesis) -> list[Caption | CaptionUpdate]:
        """Take the final hypothesis about an utterance; returns its caption and those that waited for it, in order.

        If it is in another language than the utterance, the utterance is captioned once more. So are utterances before
        it whose language turns out to have been another one; their captions are updates.
        """
        self._jobs.finish(job)
        self._metrics.utterances.inc(not job.again)
        self._final[job.utterance] = hypothesis
        captions: list[Caption | CaptionUpdate | None] = []
        while (oldest := self.oldest_waiting) and oldest.index in self._final:
            heard = self._final.pop(oldest.index)
            if (options := self._languages.review(oldest, heard)) is not None:
                self._repeat(oldest, options)
                break
            self._queue.take(oldest.index)
            for utterance, options in self._languages.wrong():
                self._queue.put_back(utterance)
                if (speaker := self._told.get(utterance.index)) is not None:
                    self._speakers[utterance.index] = speaker
                self._repeat(utterance, options)
            correcting = oldest.index in self._languages.correcting
            captions.append(self._correct(oldest, heard) if correcting else self._finish(oldest, heard))
        return [caption for caption in captions if caption is not None]

    def restore_final(self, job: CaptionJob, hypothesis: Hypothesis) -> None:
        """Take the final hypothesis about an utterance that the client was told before a restart, in order."""
        self._jobs.finish(job)
        utterance = self._queue.take(job.utterance)
        self._languages.restore(utterance, hypothesis.language)
        self._finish(utterance, hypothesis)

    def revise(self, revised: Sequence[CaptionLine]) -> None:
        """Replace the text of final captions; one without words is removed."""
        by_utterance = {line.utterance: line for line in revised}
        lines = [by_utterance.get(line.utterance, line) for line in self.lines]
        self.lines = [line for line in lines if line.text]

    def forget(self, position: int) -> None:
        """Drop the final captions that end at or before a position: windows have taken them as notes."""
        if self.lines and self.lines[0].end <= position:
            self.lines = [line for line in self.lines if line.end > position]

    def _take_partial(self, job: CaptionJob, hypothesis: Hypothesis, now: float) -> list[Caption]:
        """Take a hypothesis about the open utterance; returns the caption if the client gets it."""
        self._jobs.finish(job)
        return self.partial.take(job, hypothesis, now)

    def _take_early(self, job: CaptionJob, result: Result) -> list[Caption]:
        """Take the final hypothesis about an utterance that is still open; new words are shown, and may still change.

        One that failed is begun again when the utterance closes. One that was given up is left out.
        """
        if not isinstance(result, Hypothesis):
            self._early.fail(job)
            return []
        utterance = self._early.heard(job, result)
        if utterance is None:
            return []
        shown = self.partial.lines.get(utterance.index)
        captions = self.partial.show(utterance.index, Span(utterance.start, utterance.end), result)
        return [caption for caption in captions if not (shown and shown.text == caption.text)]

    def _abandon_draft(self) -> None:
        if (job := self.partial.abandon()) is not None:
            self._jobs.cancel(job)

    def _job(
        self,
        utterance: Utterance,
        draft: Hypothesis | None,
        options: CaptionOptions,
        *,
        final: bool,
        urgent: bool = False,
        late: bool = False,
        again: bool = False,
    ) -> CaptionJob:
        return CaptionJob(
            utterance.index,
            utterance.samples,
            draft,
            final=final,
            max_tokens=self._max_tokens,
            start=utterance.start,
            urgent=urgent,
            late=late,
            options=options,
            again=again,
            trace=self._traces.parent(utterance.index) if final and self._traces else "",
        )

    def _repeat(self, utterance: Utterance, options: CaptionOptions) -> None:
        """Have an utterance captioned once more. Later captions wait for it; it does not count towards the lag."""
        self._jobs.submit(self._job(utterance, None, options, final=True, again=True))

    def _finish(self, utterance: Utterance, hypothesis: Hypothesis) -> Caption | None:
        """Return the final caption; ``None`` if it has no words and the client saw no partial one."""
        line = caption_line(utterance, hypothesis, self._speakers.pop(utterance.index, None))
        drafted = self.partial.lines.pop(utterance.index, None)
        if line.text:
            self._told[utterance.index] = line.speaker
            while len(self._told) > REMEMBERED:
                del self._told[next(iter(self._told))]
            self.lines.append(line)
        if not (line.text or (drafted and self.partial.shown)):
            if self._traces:
                self._traces.wordless(utterance.index)
            return None
        self._languages.told(utterance)
        return final_caption(line)

    def _correct(self, utterance: Utterance, hypothesis: Hypothesis) -> CaptionUpdate | None:
        """Return the correction of a caption in another language; ``None`` if it has no words in this one."""
        self._languages.correcting.remove(utterance.index)
        speaker = self._speakers.pop(utterance.index, None)
        line = caption_line(utterance, hypothesis, speaker)
        if not line.text:
            return None
        self.revise([line])
        return update(line)
