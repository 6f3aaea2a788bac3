"""From sample frames to jobs for the engine, and from the engine's results to captions, windows and prompts."""

from __future__ import annotations

from collections.abc import Sequence

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Event, Skipped, SpeechStarted, SpeechStopped, Utterance, Window
from af3stream.audio.pcm import AudioFormat, Samples
from af3stream.audio.segmenter import Segmenter
from af3stream.config import Config
from af3stream.engine.captioning import Hypothesis
from af3stream.engine.facts import EngineFacts
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    Job,
    PrefixLost,
    Result,
    ReviseJob,
    SoundJob,
    VoiceJob,
)
from af3stream.errors import UnknownSpeaker
from af3stream.journal.records import AudioInput
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.audio_receiver import AudioReceiver
from af3stream.session.audio_replay import AudioReplay
from af3stream.session.caption_languages import CaptionLanguages
from af3stream.session.caption_line import update
from af3stream.session.caption_revision import CaptionRevision
from af3stream.session.caption_settings import settle
from af3stream.session.caption_track import CaptionTrack
from af3stream.session.closed_window import ClosedWindow
from af3stream.session.event_log import Divided
from af3stream.session.job_tracker import JobTracker
from af3stream.session.ledger import Ledger, seconds
from af3stream.session.open_utterance import OpenUtterance
from af3stream.session.question_context import QuestionContext
from af3stream.session.session_traces import SessionTraces
from af3stream.session.speaker_division import SpeakerDivision
from af3stream.session.speaker_track import SpeakerTrack
from af3stream.session.stored_results import StoredResults
from af3stream.session.window_pipeline import Messages, WindowPipeline


class AudioPipeline:
    """One session's audio: received, cut, captioned, encoded, and read into prompts.

    This is the one place where captions and windows meet, so it has more methods than other classes. Commands return
    messages for the client. Queries have no effect.

    Attributes:
        receiver: what arrived.
        settings: how captions are made.
        track: the captions of its utterances.
        utterance: the open one.
        context: what questions read.
        mode: which audio windows hold.
        speakers: who speaks; ``None`` if the session does not ask.
        told_apart: whether, or how many, speakers are told apart in what is said from now on.
        captions_in_prompt: whether prompts hold all captions, so that questions wait for them.

    Args:
        replay: gives back the samples of closed windows.
        jobs: where jobs for the engine go.
        traces: of the utterances; ``None``: they are not traced.
    """

    def __init__(
        self,
        start: m.Start,
        *,
        config: Config,
        facts: EngineFacts,
        metrics: Metrics,
        replay: AudioReplay,
        jobs: JobTracker,
        traces: SessionTraces | None = None,
    ) -> None:
        self.receiver = AudioReceiver(AudioFormat(start.format, start.rate, start.channels))
        self.mode: m.Mode = start.mode or config.audio.mode
        self.captions_in_prompt = facts.notes == "all"
        self.settings = settle(start, config.captions, facts.captioner)
        languages = CaptionLanguages(self.settings.tracker(), self.settings.options)
        self.track = CaptionTrack(
            config, interims=start.interims, languages=languages, jobs=jobs, metrics=metrics, traces=traces
        )
        self._revision = CaptionRevision(
            enabled=config.captions.second_pass and facts.captioner.revises,
            max_tokens=config.captions.max_tokens,
            options=self.settings.options,
        )
        self._windows = WindowPipeline(
            config.questions,
            facts=facts,
            naming=self.mode == "everything",
            replay=replay,
            jobs=jobs,
            metrics=metrics,
        )
        self.told_apart = start.speakers if config.captions.speakers and facts.voices else False
        self.speakers = SpeakerTrack(start.speakers, jobs) if start.speakers else None
        self._jobs = jobs
        self._segmenter = Segmenter(config.audio, self.mode, seconds(facts.capacity.window_samples))
        self._metrics = metrics
        self._ledger = Ledger()
        self._division: SpeakerDivision | None = None
        if self.speakers:
            hears = bool(self.told_apart)
            self._division = SpeakerDivision(self.speakers, self.track, self._ledger, hears=hears)
        early_pause = config.captions.early_final_ms * SAMPLE_RATE // 1_000
        self.utterance = OpenUtterance(self._segmenter, self.track, self._division, early_pause)
        self.context = QuestionContext(
            self._windows.context, self._segmenter, self.track, self.utterance, self.speakers, facts.tokens, jobs
        )
        self._ended = False
        self._closed = 0  # utterances, before they are divided

    # ---- audio -------------------------------------------------------------------------------------------------------

    def audio(self, offset: int, pcm: bytes, limit: int, now: float) -> Messages | None:
        """Take sample frames; ``None`` for a range that is there already. Raises as `AudioReceiver.audio` does."""
        samples = self.receiver.audio(offset, pcm, limit)
        return None if samples is None else self._push(samples, now)

    def gap(self, offset: int, frames: int, limit: int, now: float) -> Messages:
        """Take a range that the client lost. Raises as `AudioReceiver.gap` does."""
        silence = self.receiver.gap(offset, frames, limit)
        self._metrics.seconds.labels("dropped").inc(self.receiver.seconds(frames))
        return [message for block in silence for message in self._push(block, now)]

    def cut(self) -> Messages:
        """Close the open utterance and window here."""
        return self._handle(self._segmenter.flush())

    def end(self, total: int, now: float) -> Messages:
        """Take the end of the audio. Raises as `AudioReceiver.end` does."""
        held_back = self.receiver.end(total)
        self._ended = True
        return [*self._push(held_back, now), *self.cut()]

    def _push(self, samples: Samples, now: float) -> Messages:
        self._metrics.seconds.labels("received").inc(seconds(len(samples)))
        self.track.delays.arrived(self.position + len(samples), now)
        return self._handle(self._segmenter.push(samples))

    def _handle(self, events: list[Event]) -> Messages:
        messages: Messages = []
        for event in events:
            match event:
                case SpeechStarted(at=at):
                    messages.append(m.Speech("started", seconds(at)))
                case SpeechStopped(at=at):
                    messages.append(m.Speech("stopped", seconds(at)))
                case Utterance(start=start, end=end):
                    self._ledger.captioned += end - start
                    self._ledger.utterances += 1
                    self._closed += 1
                    messages += self._close(event)
                case Window(start=start, end=end):
                    self._ledger.heard += end - start
                    self._ledger.windows += 1
                    self._revision.closed(event)
                    self._windows.close(event, self.position, self.receiver.received, ended=self._ended)
                case Skipped(start=start, end=end):
                    self._ledger.skipped += end - start
                    self._metrics.seconds.labels("skipped").inc(seconds(end - start))
        return messages

    def _close(self, utterance: Utterance) -> Sequence[m.ServerMessage]:
        """Have a closed utterance captioned, after its voices are heard if speakers are told apart."""
        if self._division is None:
            return self.track.close(utterance, self.position)
        return self._division.close(utterance, self.position)

    # ---- from the journal --------------------------------------------------------------------------------------------

    def replay(self, record: AudioInput) -> None:
        """Take audio from the journal. The client was told of it before."""
        for samples in self.receiver.replay(record):
            self._handle(self._segmenter.push(samples))

    def begin_replay(self, stored: StoredResults) -> None:
        """Divide what is replayed from now on among speakers as the journal has it."""
        if self._division:
            self._division.begin_replay(stored)

    def end_replay(self) -> None:
        """Let what follows be divided by its voices."""
        if self._division:
            self._division.end_replay()

    def restore_results(self, stored: StoredResults) -> None:
        """Take what the journal has in place of results of the engine. Jobs without a result there stay."""
        self._jobs.take_cancelled()
        for job in self._jobs.take_new():
            if isinstance(job, CaptionJob) and job.utterance <= stored.finals_to:
                self.track.restore_final(job, stored.finals.get(job.utterance, Hypothesis("")))
            else:
                self._jobs.submit(job)
        self._revision.skip(stored.revised_to)
        self.settle()
        for job in self._windows.sounds.restore(self._jobs.take_new(), stored.named, stored.named_to):
            if isinstance(job, EncodeJob):
                self._windows.restore(job)
            else:
                self._jobs.submit(job)
        self._windows.context.trim()

    # ---- queries -----------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Samples received, at 16 kHz."""
        return self._segmenter.position

    @property
    def utterances(self) -> int:
        """Utterances closed so far, before they are divided by their voices."""
        return self._closed

    @property
    def caught_up(self) -> bool:
        """Whether every closed utterance has its caption, and every closed window its embeddings and sounds."""
        return self._oldest_pending == (None, None, None) and not self._windows.sounds.waiting

    @property
    def lag_s(self) -> float:
        """Seconds of audio received since the oldest unfinished job became due."""
        return seconds(self._jobs.lag(self.position))

    def processed(self, *, receiving: bool) -> int:
        """Return the client frames before everything that is open or pending.

        Args:
            receiving: more audio may come, so audio that the segmenter has not decided about counts as pending.
        """
        pieces = (self._segmenter.open_utterance, self._segmenter.open_window, *self._oldest_pending)
        starts = [piece.start for piece in pieces if piece is not None]
        if receiving:
            starts.append(self._segmenter.settled)
        return self.receiver.frames_before(min(starts)) if starts else self.receiver.received

    def ended(self) -> m.Ended:
        """Return the session's last message: what became of all audio."""
        return self._ledger.ended(self.receiver)

    @property
    def _oldest_pending(self) -> tuple[Utterance | None, Window | None, ClosedWindow | None]:
        """The oldest utterance to caption, window to revise, and window to encode."""
        return self.track.oldest_waiting, self._revision.oldest_pending, self._windows.context.oldest_pending

    def _final_before(self) -> int:
        """Return the position before which windows must end so that all their captions are final.

        If captions replace audio, an utterance that only begins in a window counts, too.
        """
        if self._windows.context.captions_replace_audio:
            return min((start for start, _ in self.utterance.unfinished()), default=self.position) + 1
        waiting = self.track.oldest_waiting
        return waiting.end if waiting else self.position + 1

    # ---- commands ----------------------------------------------------------------------------------------------------

    def settle(self) -> Messages:
        """Revise captions, and let windows take theirs as notes, where that is due."""
        before, lines = self._final_before(), self.track.lines
        late = self.track.are_late(self.position)
        if (job := self._revision.next_job(lines, before, late=late)) is not None:
            self._jobs.submit(job, self.position)
        revising = self._revision.oldest_pending
        if revising:
            before = min(before, revising.end)
        messages = self._windows.settle(lines, before, self.position, self.utterance.unfinished())
        settled_to = self._windows.context.settled_to
        self.track.forget(min(settled_to, revising.start) if revising else settled_to)
        return messages

    def take_divided(self) -> list[Divided]:
        """Return how utterances were divided, for the journal, and empty the list."""
        return self._division.take_divided() if self._division else []

    def name_speaker(self, speaker: int, name: str) -> Messages:
        """Name a speaker.

        Raises:
            UnknownSpeaker: if the session does not tell speakers apart, or has not heard this one.
            BadText: as `SpeakerTrack.name` does.
        """
        if self.speakers is None:
            raise UnknownSpeaker("the session does not tell speakers apart")
        kept = self.speakers.name(speaker, name)
        return [] if kept is None else [m.SpeakerNamed(speaker, kept)]

    def complete(self, job: Job, result: Result, done: bool, now: float) -> Messages:
        """Take a result of a job; of an answer, only the news that its KV prefix was evicted."""
        match job:
            case CaptionJob():
                return self.track.complete(job, result, now)
            case VoiceJob() if self._division:
                return self._division.complete(job, result, self.position)
            case ReviseJob():
                self._jobs.finish(job)
                hypothesis = result if isinstance(result, Hypothesis) else Hypothesis("")
                lines = self._revision.revised(job, hypothesis, self.track.lines)
                self.track.revise(lines)
                return [update(line) for line in lines]
            case EncodeJob():
                return self._windows.encoded(job, result)
            case SoundJob():
                return [*self._windows.sounds.complete(job, result)]
            case ExtendJob() if done:
                self._windows.context.extended(job)
            case AnswerJob() if isinstance(result, PrefixLost):
                self._windows.context.lost(job)
        return []
