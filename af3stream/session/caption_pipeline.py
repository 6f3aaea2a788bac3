"""Has utterances captioned and captions revised, and turns the results into messages."""

from __future__ import annotations

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Span, Utterance
from af3stream.audio.pcm import Samples
from af3stream.config import Config
from af3stream.engine.contract import Hypothesis
from af3stream.engine.jobs import CaptionJob, Failed, Result, ReviseJob
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.caption_revision import CaptionRevision
from af3stream.session.caption_track import CaptionTrack
from af3stream.session.job_tracker import JobTracker
from af3stream.session.ledger import Arrivals, seconds
from af3stream.session.load_shedder import DROP_INTERIMS_LAG_S
from af3stream.session.server_messages import failure

Messages = list[m.ServerMessage]


class CaptionPipeline:
    """One session's captions on their way through the engine.

    Attributes:
        track: the captions.
        revision: the second pass over them.

    Args:
        interims: whether the client wants partial captions.
        revises: whether the captioner makes fewer mistakes over a whole window.
        jobs: where jobs for the engine go.
    """

    def __init__(self, config: Config, *, interims: bool, revises: bool, jobs: JobTracker, metrics: Metrics) -> None:
        captions = config.captions
        self.track = CaptionTrack(captions.interim_every_s, captions.max_tokens, interims and captions.interims)
        self.revision = CaptionRevision(enabled=captions.second_pass and revises, max_tokens=captions.max_tokens)
        self._pad = config.audio.speech_pad_ms * SAMPLE_RATE // 1_000
        self._jobs = jobs
        self._metrics = metrics
        self._arrivals = Arrivals()

    def arrived(self, position: int, now: float) -> None:
        """Note that all audio before a position arrived by ``now``."""
        self._arrivals.note(position, now)

    def lag_s(self, position: int) -> float:
        """Return the seconds of audio received since the oldest unfinished final caption became due."""
        return seconds(self._jobs.lag(position, CaptionJob))

    def are_late(self, position: int) -> bool:
        """Return whether final captions lag so far behind that other work goes first."""
        return self.lag_s(position) > DROP_INTERIMS_LAG_S

    def close(self, utterance: Utterance, position: int) -> None:
        """Have a closed utterance captioned for good, instead of the partial caption on its way."""
        self._abandon_draft()
        self._jobs.submit(self.track.close(utterance, late=self.are_late(position)), position)

    def draft(self, span: Span, samples: Samples, now: float, *, urgent: bool = False) -> CaptionJob:
        """Have the open utterance captioned so far; returns the job.

        Args:
            urgent: a question waits for it; it replaces the partial caption on its way.
        """
        self._abandon_draft()
        job = self.track.interim(span.start, span.end, samples, now, urgent=urgent)
        self._jobs.submit(job)
        return job

    def revise(self, final_before: int, position: int) -> None:
        """Begin the second pass that is due; all captions of windows that end before ``final_before`` are final."""
        job = self.revision.next_job(self.track.lines, final_before, late=self.are_late(position))
        if job is not None:
            self._jobs.submit(job, position)

    def captioned(self, job: CaptionJob, result: Result, now: float) -> Messages:
        """Take the result of a caption job: a hypothesis, or a failure."""
        messages: Messages = []
        if isinstance(result, Failed):
            if job.final and self._jobs.retry(job, result):
                return []
            if job.final:
                messages.append(failure(f"utterance {job.utterance} could not be captioned", result))
            result = Hypothesis("")
        assert isinstance(result, Hypothesis)
        self._jobs.finish(job)
        captions = []
        if job.final:
            captions = self.track.heard_final(job, result)
            self._metrics.utterances.inc()
        elif interim := self.track.heard_interim(job, result, now):
            captions = [interim]
        for caption in captions:
            self._measure(caption, now)
        return [*messages, *captions]

    def revised(self, job: ReviseJob, result: Result) -> Messages:
        """Take the result of a second pass. After a failure the captions stay as they are."""
        self._jobs.finish(job)
        lines = self.revision.revised(job, result if isinstance(result, Hypothesis) else Hypothesis(""))
        self.track.revise(lines)
        return [m.CaptionUpdate(line.utterance, line.text, seconds(line.start), seconds(line.end)) for line in lines]

    def _abandon_draft(self) -> None:
        if (job := self.track.abandon_interim()) is not None:
            self._jobs.cancel(job)

    def _measure(self, caption: m.Caption, now: float) -> None:
        """Observe the time from the audio's arrival to its caption."""
        end = round(caption.end * SAMPLE_RATE)
        arrived = self._arrivals.at(end)
        if arrived is None:
            return
        self._metrics.word_delay.labels("final" if caption.final else "interim").observe(now - arrived)
        if caption.final:
            self._metrics.final_delay.observe(now - (self._arrivals.at(end - self._pad) or arrived))
