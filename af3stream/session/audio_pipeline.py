"""From sample frames to what the engine is to hear, and from what it heard to captions and windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Event, Skipped, Span, SpeechStarted, SpeechStopped, Utterance, Window
from af3stream.audio.pcm import AudioFormat, Samples
from af3stream.audio.segmenter import Segmenter
from af3stream.config import Config
from af3stream.engine.contract import AudioSegment, Engine, Hypothesis, Voices
from af3stream.engine.jobs import CaptionJob, EncodeJob, Failed, Job, Result, ReviseJob, VoiceJob
from af3stream.journal.records import AudioInput
from af3stream.metrics import Metrics
from af3stream.models.card import Frames, Notes
from af3stream.protocol import messages as m
from af3stream.session.audio_receiver import AudioReceiver
from af3stream.session.audio_replay import AudioReplay
from af3stream.session.body import Piece, Stretch
from af3stream.session.caption_revision import CaptionRevision
from af3stream.session.caption_track import CaptionLine, CaptionTrack, Wanted
from af3stream.session.context_window import ContextWindow, Entry
from af3stream.session.event_log import Divided
from af3stream.session.faults import failure
from af3stream.session.ledger import Arrivals, Ledger, seconds
from af3stream.session.load_shedder import DROP_INTERIMS_LAG_S
from af3stream.session.speaker_track import SpeakerTrack

ATTEMPTS = 2  # at a caption or a window, before it is given up

Told = list[m.ServerMessage]


class AudioPipeline:
    """One session's audio: taken in, cut, captioned and encoded. What there is to tell is returned.

    Attributes:
        intake: what arrived.
        captions: of utterances.
        revision: the second pass over their words.
        horizon: of windows.
        speakers: who speaks; ``None`` where the session does not ask.
        divided: how utterances were divided by their voices, for the journal; whoever takes them empties the list.
        jobs, cancelled: what the engine is to do, and need not do any more; whoever takes them empties the lists.
    """

    def __init__(
        self,
        start: m.Start,
        *,
        config: Config,
        engine: Engine,
        notes: Notes,
        frames: Frames,
        metrics: Metrics,
        recall: AudioReplay,
    ) -> None:
        self.intake = AudioReceiver(AudioFormat(start.format, start.rate, start.channels))
        self.mode: m.Mode = start.mode or config.audio.mode
        interims = start.interims and config.captions.interims
        self.captions = CaptionTrack(config.captions.interim_every_s, config.captions.max_tokens, interims)
        self.revision = CaptionRevision(
            enabled=config.captions.second_pass and engine.captioner.revises, max_tokens=config.captions.max_tokens
        )
        self.horizon = ContextWindow(
            engine.capacity,
            notes,
            frames,
            notes_max_tokens=config.questions.notes_max_tokens,
            reply_tokens=config.questions.max_tokens,
            read_tokens=config.questions.read_tokens,
            tokens=engine.frames,
            count=engine.count,
        )
        told_apart = start.speakers if config.captions.speakers and engine.voices is not None else False
        self.speakers = SpeakerTrack(told_apart) if told_apart else None
        self.divided: list[Divided] = []
        self.jobs: list[Job] = []
        self.cancelled: list[Job] = []
        self._noted = notes == "all"
        self._segmenter = Segmenter(config.audio, self.mode, seconds(engine.capacity.window_samples))
        self._recall = recall
        self._frames = engine.frames
        self._pad = config.audio.speech_pad_ms * SAMPLE_RATE // 1_000
        self._metrics = metrics
        self._ledger = Ledger()
        self._arrivals = Arrivals()
        self._failures: Counter[Job] = Counter()
        self._due: dict[Job, int] = {}  # samples taken in when it became due; until it is done
        self._ended = False
        self._closed = 0  # utterances that the segmenter closed

    # ---- audio -------------------------------------------------------------------------------------------------------

    def audio(self, offset: int, pcm: bytes, limit: int, now: float) -> Told | None:
        """Take in sample frames; ``None`` for a range that is there already. Raises as `AudioReceiver.audio` does."""
        samples = self.intake.audio(offset, pcm, limit)
        return None if samples is None else self._hear(samples, now)

    def gap(self, offset: int, frames: int, limit: int, now: float) -> Told:
        """Take in a stretch that the client lost. Raises as `AudioReceiver.gap` does."""
        silence = self.intake.gap(offset, frames, limit)
        self._metrics.seconds.labels("dropped").inc(self.intake.seconds(frames))
        return [message for block in silence for message in self._hear(block, now)]

    def replay(self, record: AudioInput) -> None:
        """Take in what the journal kept; everything of it was told."""
        for samples in self.intake.replay(record):
            self._events(self._segmenter.push(samples))

    def cut(self) -> Told:
        """Close what is open, here."""
        return self._events(self._segmenter.flush())

    def end(self, total: int, now: float) -> Told:
        """Nothing follows. Raises as `AudioReceiver.end` does."""
        held_back = self.intake.end(total)
        self._ended = True
        return [*self._hear(held_back, now), *self.cut()]

    def _hear(self, samples: Samples, now: float) -> Told:
        self._metrics.seconds.labels("received").inc(seconds(len(samples)))
        self._arrivals.note(self.position + len(samples), now)
        return self._events(self._segmenter.push(samples))

    def _events(self, events: list[Event]) -> Told:
        told: Told = []
        for event in events:
            match event:
                case SpeechStarted(at=at):
                    told.append(m.Speech("started", seconds(at)))
                case SpeechStopped(at=at):
                    told.append(m.Speech("stopped", seconds(at)))
                case Utterance():
                    self._close_utterance(event)
                case Window():
                    self._close_window(event)
                case Skipped(start=start, end=end):
                    self._ledger.skipped += end - start
                    self._metrics.seconds.labels("skipped").inc(seconds(end - start))
        return told

    def _close_utterance(self, utterance: Utterance) -> None:
        self._ledger.captioned += utterance.end - utterance.start
        self._ledger.utterances += 1
        self._closed += 1
        self._abandon_interim()
        if self.speakers is None:
            self._do(self.captions.close(utterance, late=self._late))
        else:
            self.captions.hold(utterance)
            self._do(self.speakers.close(utterance, late=self._late))

    def _abandon_interim(self) -> None:
        interim = self.captions.abandon_interim()
        if interim is not None:
            self.cancelled.append(interim)

    def _close_window(self, window: Window) -> None:
        self._ledger.heard += window.end - window.start
        self._ledger.windows += 1
        self.revision.closed(window)
        entry = self.horizon.close(window)
        assert entry.sound
        self._recall.closed(entry.sound, window, self.intake.received, ended=self._ended)
        if not self.horizon.carried_by_captions:  # else its captions say whether it is to be heard
            self._do(EncodeJob(entry.index, entry.sound))

    def _do(self, job: Job) -> None:
        self._due[job] = self.position
        self.jobs.append(job)

    # ---- where it stands ---------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Samples taken in."""
        return self._segmenter.position

    @property
    def utterances(self) -> int:
        """Utterances closed so far, before they are divided by their voices."""
        return self._closed

    @property
    def caught_up(self) -> bool:
        """Whether every closed utterance has its words, and every closed window its embeddings."""
        components = (self.captions.oldest_waiting, self.horizon.oldest_pending, self.revision.oldest_pending)
        return all(oldest is None for oldest in components)

    @property
    def lag_s(self) -> float:
        """Seconds of audio that came since the oldest piece of work that is not done became due."""
        return seconds(self.position - min(self._due.values(), default=self.position))

    @property
    def captions_lag_s(self) -> float:
        """The same of final captions alone."""
        due = (position for job, position in self._due.items() if isinstance(job, CaptionJob | VoiceJob))
        return seconds(self.position - min(due, default=self.position))

    @property
    def _late(self) -> bool:
        """Whether final captions are so far behind that questions go first."""
        return self.captions_lag_s > DROP_INTERIMS_LAG_S

    def done(self, job: Job) -> None:
        """A caption or a window is no longer waited for."""
        self._due.pop(job, None)

    def processed(self, *, listening: bool) -> int:
        """Client frames before everything that is open or waiting; ``listening``: and that is yet to be decided."""
        pieces = (
            self._segmenter.open_utterance,
            self._segmenter.open_window,
            self.captions.oldest_waiting,
            self.horizon.oldest_pending,
            self.revision.oldest_pending,
        )
        starts = [piece.start for piece in pieces if piece is not None]
        if listening:
            starts.append(self._segmenter.settled)
        return self.intake.frames_before(min(starts)) if starts else self.intake.received

    def open_window(self) -> Piece | None:
        """The open window as heard so far."""
        span = self._segmenter.open_window
        tokens = self._frames(span.end - span.start) if span else 0
        if span is None or not tokens:
            return None
        sound = AudioSegment(self._segmenter.read(span.start, span.end), tokens)
        spoken = tuple((utterance.start, utterance.end) for utterance in self._unfinished())
        return Piece(span.start, span.end, sound, (), spoken)

    def words(self) -> list[CaptionLine]:
        """Captions that are notes of no window yet: the final ones, then what is heard so far of other utterances."""
        return [*(line for line in self.captions.lines if line.end > self.horizon.settled_to), *self.captions.drafts]

    def wordless(self) -> list[Stretch]:
        """Where captions are still to come, and there are no interim words either."""
        return [(utterance.start, utterance.end) for utterance in self.captions.wordless]

    def _unfinished(self) -> list[Span | Utterance]:
        """The utterances whose final words are still to come, the open one too."""
        open_utterance = self._segmenter.open_utterance
        return [*self.captions.waiting, *([open_utterance] if open_utterance else [])]

    def ended(self) -> m.Ended:
        """What became of everything."""
        return self._ledger.ended(self.intake)

    # ---- what the engine heard ---------------------------------------------------------------------------------------

    def interim(self, now: float) -> None:
        """Have the open utterance heard so far, where that is due."""
        span = self._segmenter.open_utterance  # up to its last voice: a pause is not heard again
        if span is not None and self.captions.interim_due(span.start, span.end):
            self._draft(span, now)

    def wanted(self, now: float) -> Wanted:
        """The words that a question which is next waits for; the open utterance is heard where its draft is stale."""
        if not self._noted:
            return Wanted(0, None)
        draft, span = None, self._segmenter.open_utterance
        if span is not None and not self.captions.holds and self.captions.stale(span.start, span.end):
            self._abandon_interim()
            draft = self._draft(span, now, urgent=True)
        return Wanted(self.utterances, draft)

    def _draft(self, span: Span, now: float, *, urgent: bool = False) -> CaptionJob:
        """Have the open utterance heard so far."""
        samples = self._segmenter.read(span.start, span.end)
        job = self.captions.interim(span.start, span.end, samples, now, urgent=urgent)
        self.jobs.append(job)
        return job

    def settle(self) -> Told:
        """Windows whose captions are final and revised take them as notes; those that they carry need no encoding."""
        told: Told = []
        before = self._final_before()
        if revise := self.revision.next_job(self.captions.lines, before, late=self._late):
            self._do(revise)
        if oldest := self.revision.oldest_pending:
            before = min(before, oldest.end)
        for entry in self.horizon.settle(self.captions.lines, before):
            if not self.horizon.carried_by_captions:
                continue
            if entry.sound:
                self._do(EncodeJob(entry.index, entry.sound))
            else:
                told.append(self._window(entry))
        return told

    def _final_before(self) -> int:
        """All captions of windows that end before it are final, and of all that begins in them where these decide."""
        if self.horizon.carried_by_captions:
            return min((utterance.start for utterance in self._unfinished()), default=self.position) + 1
        waiting = self.captions.oldest_waiting
        return waiting.end if waiting else self.position + 1

    def captioned(self, job: CaptionJob, result: Result, now: float) -> Told:
        """The words of an utterance came in, or could not be had."""
        told: Told = []
        if isinstance(result, Failed):
            if job.final and self._again(job, result):
                return []
            if job.final:
                told.append(failure(f"utterance {job.utterance} could not be captioned", result))
            result = Hypothesis("")
        assert isinstance(result, Hypothesis)
        self.done(job)
        captions = []
        if job.final:
            captions = self.captions.heard_final(job, result)
            self._metrics.utterances.inc()
        elif interim := self.captions.heard_interim(job, result, now):
            captions = [interim]
        for caption in captions:
            self._measure(caption, now)
        return [*told, *captions]

    def heard_voices(self, job: VoiceJob, result: Result) -> Told:
        """The voices of an utterance came in, or could not be had: it is divided, and captioned part by part."""
        assert self.speakers is not None
        self.done(job)
        self.speakers.heard(job, result if isinstance(result, Voices) else None)
        told: Told = []
        while found := self.speakers.next_divided(self.captions.oldest_held):
            kept, parts = found
            self.divided.append(kept)
            self._caption_parts(parts)
            told += self._correct_speakers(self.speakers)
        return told

    def restore_voices(self, job: VoiceJob, kept: Divided, told: Mapping[int, int]) -> None:
        """Divide an utterance as the journal has it; ``told``: the speakers of utterances, corrections included."""
        assert self.speakers is not None
        self.done(job)
        self._caption_parts(self.speakers.restore(kept, told))

    def _caption_parts(self, parts: Sequence[tuple[Utterance, int | None]]) -> None:
        self._ledger.utterances += len(parts) - 1
        for job in self.captions.divide(parts, late=self._late):
            self._do(job)

    def _correct_speakers(self, speakers: SpeakerTrack) -> Told:
        """Correct the speakers of utterances by what the newest one tells; a name goes with its speaker."""
        corrected = speakers.correct().items()
        updates = [m.SpeakerUpdate(*update) for update in corrected if self.captions.correct_speaker(*update)]
        return [*updates, *(m.SpeakerNamed(speaker, name) for speaker, name in speakers.inherit_names().items())]

    def revised(self, job: ReviseJob, result: Result) -> Told:
        """The words of a second pass came in, or could not be had: then the captions stay as they are."""
        self.done(job)
        hypothesis = result if isinstance(result, Hypothesis) else Hypothesis("")
        lines = self.revision.revised(job, hypothesis)
        self.captions.revise(lines)
        return [
            m.CaptionUpdate(line.utterance, line.text, seconds(line.start), seconds(line.end), speaker=line.speaker)
            for line in lines
        ]

    def encoded(self, job: EncodeJob, result: Result) -> Told:
        """The embeddings of a window are there, or could not be had."""
        if isinstance(result, Failed):
            if self._again(job, result):
                return []
            self.done(job)
            self.horizon.drop(job)
            return [failure(f"window {job.window} could not be encoded", result)]
        self.done(job)
        return [self._window(self.horizon.encoded(job))]

    def _window(self, entry: Entry) -> m.Window:
        """A window can be read from now on."""
        self._metrics.windows.inc()
        self._metrics.seconds.labels("decoded").inc(seconds(entry.end - entry.start))
        return m.Window(entry.index, seconds(entry.start), seconds(entry.end), self.horizon.positions(entry))

    def _again(self, job: CaptionJob | EncodeJob, failed: Failed) -> bool:
        """Do a job that failed once more, if it has attempts left."""
        self._failures[job] += 1
        if failed.timed_out or self._failures[job] >= ATTEMPTS:
            return False
        self.jobs.append(job)
        return True

    def _measure(self, caption: m.Caption, now: float) -> None:
        end = round(caption.end * SAMPLE_RATE)
        arrived = self._arrivals.at(end)
        if arrived is None:
            return
        self._metrics.word_delay.labels("final" if caption.final else "interim").observe(now - arrived)
        if caption.final:
            self._metrics.final_delay.observe(now - (self._arrivals.at(end - self._pad) or arrived))
