"""The conversation's state machine: messages and results in, messages and jobs out.

    receive(message, now)        what the client sent
    complete(job, result, now)   what the engine reports
    advance(now)                 time has passed; `next_deadline` says when to call it
    take_messages(), take_jobs(), take_cancelled()    what is to be sent, run and dropped; pulling empties

``now`` is monotonic seconds. Audio time is a sample index at 16 kHz everywhere inside.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum
from typing import Final

import msgspec

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Event, Skipped, SpeechStarted, SpeechStopped, Utterance, Window
from af3stream.audio.pcm import AudioFormat, Samples
from af3stream.audio.windows import Segmenter
from af3stream.config import Config
from af3stream.engine.contract import Engine, Hypothesis, Sound
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Failed, Job, Restarted, Result
from af3stream.errors import BadFormat, EngineRestart, NoSession, Refusal
from af3stream.journal.facts import Recovered
from af3stream.journal.records import Record
from af3stream.metrics import Metrics
from af3stream.models.card import Notes
from af3stream.protocol import messages as m
from af3stream.session.answers import Answers, failure
from af3stream.session.captions import CaptionTrack
from af3stream.session.greeting import describe
from af3stream.session.horizon import Horizon
from af3stream.session.intake import Intake
from af3stream.session.keeping import Cut, Keeping, decode_event, split
from af3stream.session.ledger import Arrivals, Ledger, seconds

ACK_EVERY_S: Final = 0.2
DROP_INTERIMS_LAG_S: Final = 8.0  # finals this far behind get the device for themselves
ATTEMPTS: Final = 2  # at a caption or a window, before it is given up


class State(Enum):
    """Where a session stands."""

    OPEN = "open"  # takes audio
    ENDING = "ending"  # has all audio, and finishes what is pending
    ENDED = "ended"  # has sent `ended`
    DRAINING = "draining"  # the server goes away: takes no more audio, and finishes what is pending
    DRAINED = "drained"  # has nothing pending; goes on elsewhere, or later


class Session:
    """One conversation.

    Args:
        session_id: made by the server.
        start: the client's opening message.
        notes: which captions stand in the prompt.
        journaled: whether its records are written, so that it is durable.

    Raises:
        BadFormat: for an audio format the service does not take.
    """

    def __init__(
        self,
        session_id: str,
        start: m.Start,
        *,
        config: Config,
        engine: Engine,
        notes: Notes,
        metrics: Metrics,
        journaled: bool = False,
    ) -> None:
        self.id = session_id
        self.state = State.OPEN
        self._config = config
        self._metrics = metrics
        self._intake = Intake(AudioFormat(start.format, start.rate, start.channels))
        self._mode: m.Mode = start.mode or config.audio.mode
        self._segmenter = Segmenter(config.audio, self._mode, seconds(engine.capacity.window_samples))
        interims = start.interims and config.captions.interims
        self._captions = CaptionTrack(config.captions.interim_every_s, config.captions.max_tokens, interims)
        self._horizon = Horizon(
            engine.capacity,
            notes,
            notes_max_tokens=config.questions.notes_max_tokens,
            reply_tokens=config.questions.max_tokens,
            frames=engine.frames,
            count=engine.count,
        )
        self._answers = Answers(config.questions, metrics)
        self._engine = engine
        self._ledger = Ledger()
        self._arrivals = Arrivals()
        self._flushes: list[m.Flushed] = []
        self._failures: Counter[Job] = Counter()
        self._keeping = Keeping(journaled=journaled)
        self._jobs: list[Job] = []
        self._cancelled: list[Job] = []
        self._acked = m.Ack(0, 0, 0 if journaled else None)
        self._acked_at = float("-inf")
        self._level: m.Level = "none"

    def restore(self, recovered: Recovered) -> None:
        """Become again what the journal kept: the same utterances, windows and words, in a session just made.

        Final captions that are not kept are asked of the captioner; windows are encoded when a question wants them.

        Raises:
            DataLoss: where something that was acknowledged is damaged or missing.
        """
        events = [(record.number, decode_event(record)) for record in recovered.events]
        finals = {kept.utterance: kept.text for _, kept in events if isinstance(kept, m.Caption)}
        cuts = deque(kept.offset for _, kept in events if isinstance(kept, Cut))
        for record in recovered.audio:
            for piece in split(record, list(cuts), self._intake.format.bytes_per_frame):
                while cuts and cuts[0] <= self._intake.received:
                    cuts.popleft()
                    self._take_events(self._segmenter.flush())
                for samples in self._intake.relive(piece):
                    self._take_events(self._segmenter.push(samples))
                self._remember(finals)
        for _ in cuts:
            self._take_events(self._segmenter.flush())
        self._remember(finals)
        self._keeping.restore(recovered.durable, events)

    def _remember(self, finals: dict[int, str]) -> None:
        """Take from the journal what the engine would be asked for; jobs for the rest stay.

        Finals are told in order: an utterance before the newest kept one that has none said nothing.
        """
        told_to = max(finals, default=-1)
        jobs, self._jobs, self._cancelled = self._jobs, [], []
        for job in jobs:
            if isinstance(job, EncodeJob):
                self._horizon.restore(job)
            elif isinstance(job, CaptionJob) and job.utterance <= told_to:
                self._captions.heard_final(job, Hypothesis(finals.get(job.utterance, "")))
            else:
                self._jobs.append(job)
        self._settle()
        self._horizon.trim()

    # ---- in ----------------------------------------------------------------------------------------------------------

    def receive(self, message: m.ClientMessage, now: float) -> None:
        """Take one message.

        Raises:
            Refusal: where it is refused; nothing of it is kept then.
        """
        if self.state is State.ENDED and not isinstance(message, m.End):
            raise NoSession("the session has ended")
        match message:
            case m.Audio() | m.Gap():
                self._take_audio(message, now)
            case m.Ask():
                if message.id not in self._keeping.answered:  # else it was sent again by a client that resumed
                    self._answers.ask(message, now)
            case m.Cancel(id=question):
                self._cancel(question)
            case m.Watch():
                self._answers.watch(message)
            case m.Unwatch(id=watch):
                self._answers.unwatch(watch)
            case m.Flush(id=flush):
                self._cut()
                self._flushes.append(m.Flushed(flush, self._intake.received))
            case m.End(total=total):
                if self.state is not State.OPEN and total == self._intake.received:
                    return  # sent again by a client that resumed
                self._open_only()
                self._hear(self._intake.end(total), now)
                self._take_events(self._segmenter.finish())
                self.state = State.ENDING
            case m.Start():
                if (found := AudioFormat(message.format, message.rate, message.channels)) != self._intake.format:
                    raise BadFormat(f"the session's audio is {self._intake.format}, and stays so; found {found}")
                raise NoSession("the session is already open")
        self.advance(now)

    def complete(self, job: Job, result: Result, done: bool, now: float) -> None:
        """Take what the engine reports of a job: pieces while it runs, and ``done`` with the last."""
        if isinstance(result, Restarted):
            self._keeping.say([m.error(EngineRestart("the engine ran out of memory, and does its work once more"))])
            return
        match job:
            case CaptionJob():
                self._captioned(job, result, now)
            case EncodeJob():
                self._encoded(job, result)
            case ExtendJob() if done:
                self._horizon.extended(job)
            case AnswerJob():
                self._keeping.say(self._answers.heard(job, result, done, now))
        self.advance(now)

    def committed(self, durable: int, event: int, now: float) -> None:
        """The journal has written so many sample frames, and so many events."""
        self._keeping.committed(durable, event)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Do what is due by ``now``."""
        self._settle()
        self._interim(now)
        self._ask_next(now)
        self._degrade()
        self._acknowledge(now)
        self._deliver_flushes()
        if self.state is State.ENDING and self._finished():
            self._keeping.say([self._ledger.ended(self._intake)])
            self.state = State.ENDED
        if self.state is State.DRAINING and self._finished():
            self.state = State.DRAINED

    def drain(self, now: float) -> None:
        """Take no more audio, and finish what is pending: the server is going away."""
        if self.state is State.OPEN:
            self._cut()
            self.state = State.DRAINING
            self.advance(now)

    @property
    def next_deadline(self) -> float | None:
        """When `advance` is due next, in clock seconds; ``None`` while nothing waits for time to pass."""
        return self._acked_at + ACK_EVERY_S if self._ack() != self._acked else None

    # ---- out ---------------------------------------------------------------------------------------------------------

    def take_messages(self) -> list[m.ServerMessage]:
        """What is to be sent, in order."""
        return self._keeping.take_messages()

    def take_records(self) -> list[Record]:
        """What is to be made durable, in order; `committed` says when it is."""
        return self._keeping.take_records()

    def take_jobs(self) -> list[Job]:
        """What the engine is to do."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def take_cancelled(self) -> list[Job]:
        """What the engine need not do any more."""
        jobs, self._cancelled = self._cancelled, []
        return jobs

    @property
    def over(self) -> bool:
        """Whether everything is told, and nothing follows."""
        return self.state in (State.ENDED, State.DRAINED) and not self._keeping.waiting

    @property
    def durable(self) -> int | None:
        """Client frames that are on disk; ``None`` where nothing is kept."""
        return self._keeping.durable if self._keeping.journaled else None

    @property
    def lag_s(self) -> float:
        """Seconds of audio that came after the oldest piece of work that is due and not done."""
        due = [piece.end for piece in (self._captions.oldest_waiting, self._horizon.oldest_unencoded) if piece]
        return seconds(self._segmenter.position - min(due)) if due else 0.0

    # ---- audio -------------------------------------------------------------------------------------------------------

    def _take_audio(self, message: m.Audio | m.Gap, now: float) -> None:
        if self.state in (State.DRAINING, State.DRAINED):
            return  # not received; the client sends it again when it resumes
        self._open_only()
        try:
            if isinstance(message, m.Gap):
                silence = self._intake.gap(message.offset, message.frames, self._credit())
                self._keeping.gap(message.offset, message.frames)
                self._metrics.seconds.labels("dropped").inc(self._intake.seconds(message.frames))
                for block in silence:
                    self._hear(block, now)
                return
            samples = self._intake.audio(message.offset, message.pcm, self._credit())
        except Refusal as refusal:
            refusal.expected_offset = self._intake.received
            raise
        if samples is not None:
            self._keeping.audio(message.offset, message.pcm, self._intake.format.frames(message.pcm))
            self._hear(samples, now)

    def _hear(self, samples: Samples, now: float) -> None:
        self._metrics.seconds.labels("received").inc(seconds(len(samples)))
        self._arrivals.note(self._segmenter.position + len(samples), now)
        self._take_events(self._segmenter.push(samples))

    def _take_events(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case SpeechStarted(at=at):
                    self._keeping.say([m.Speech("started", seconds(at))])
                case SpeechStopped(at=at):
                    self._keeping.say([m.Speech("stopped", seconds(at))])
                case Utterance():
                    self._close_utterance(event)
                case Window():
                    self._ledger.heard += event.end - event.start
                    self._ledger.windows += 1
                    self._jobs.append(self._horizon.close(event))
                case Skipped(start=start, end=end):
                    self._ledger.skipped += end - start
                    self._metrics.seconds.labels("skipped").inc(seconds(end - start))

    def _close_utterance(self, utterance: Utterance) -> None:
        self._ledger.captioned += utterance.end - utterance.start
        self._ledger.utterances += 1
        interim = self._captions.abandon_interim()
        if interim is not None:
            self._cancelled.append(interim)
        self._jobs.append(self._captions.close(utterance))

    def _cut(self) -> None:
        """Close what is open, here; what comes after a restart is cut here, too."""
        self._keeping.cut(self._intake.received)
        self._take_events(self._segmenter.flush())

    def _credit(self) -> int:
        """The first client frame that may not be sent yet."""
        ahead = round(self._config.server.credit_s * self._intake.format.rate)
        return self._processed() + ahead

    def _processed(self) -> int:
        """Client frames before everything that is open or waiting."""
        pieces = (
            self._segmenter.open_utterance,
            self._segmenter.open_window,
            self._captions.oldest_waiting,
            self._horizon.oldest_unencoded,
        )
        starts = [piece.start for piece in pieces if piece is not None]
        if self.state is State.OPEN:
            starts.append(self._segmenter.settled)
        reached = self._intake.frames_before(min(starts)) if starts else self._intake.received
        if self._keeping.journaled:
            reached = min(reached, self._keeping.durable)
        return max(self._acked.processed, reached)

    # ---- captions ----------------------------------------------------------------------------------------------------

    def _interim(self, now: float) -> None:
        span = self._segmenter.open_utterance
        if span is None or self._level == "interims_dropped":
            return
        end = self._segmenter.position
        if self._captions.interim_due(span.start, end):
            self._jobs.append(self._captions.interim(span.start, end, self._segmenter.read(span.start, end), now))

    def _captioned(self, job: CaptionJob, result: Result, now: float) -> None:
        if isinstance(result, Failed):
            if job.final and self._again(job, result):
                return
            if job.final:
                self._keeping.say([failure(f"utterance {job.utterance} could not be captioned", result)])
            result = Hypothesis("")
        assert isinstance(result, Hypothesis)
        captions = []
        if job.final:
            captions = self._captions.heard_final(job, result)
            self._metrics.utterances.inc()
        elif interim := self._captions.heard_interim(job, result, now):
            captions = [interim]
        for caption in captions:
            self._keeping.say([caption])
            self._measure(caption, now)

    def _again(self, job: CaptionJob | EncodeJob, failed: Failed) -> bool:
        """Do a job that failed once more, if it has attempts left."""
        self._failures[job] += 1
        if failed.timed_out or self._failures[job] >= ATTEMPTS:
            return False
        self._jobs.append(job)
        return True

    def _measure(self, caption: m.Caption, now: float) -> None:
        arrived = self._arrivals.at(round(caption.end * SAMPLE_RATE))
        if arrived is None:
            return
        self._metrics.word_delay.labels("final" if caption.final else "interim").observe(now - arrived)
        if caption.final:
            spoken = self._arrivals.at(round(caption.end * SAMPLE_RATE) - self._config.audio.speech_pad_ms * 16)
            self._metrics.final_delay.observe(now - (spoken or arrived))

    # ---- windows and questions ---------------------------------------------------------------------------------------

    def _encoded(self, job: EncodeJob, result: Result) -> None:
        if isinstance(result, Failed):
            if self._again(job, result):
                return
            self._keeping.say([failure(f"window {job.window} could not be encoded", result)])
            self._horizon.drop(job)
            return
        entry = self._horizon.encoded(job)
        self._metrics.windows.inc()
        self._metrics.seconds.labels("decoded").inc(seconds(entry.end - entry.start))
        self._keeping.say([m.Window(entry.index, seconds(entry.start), seconds(entry.end), entry.sound.tokens)])
        self._answers.window_closed(now_position=self._segmenter.position)

    def _settle(self) -> None:
        """Windows whose captions are all final take them as notes, and the kept prefix follows."""
        waiting = self._captions.oldest_waiting
        self._horizon.settle(self._captions.lines, waiting.end if waiting else self._segmenter.position + 1)

    def _ask_next(self, now: float) -> None:
        """One job at a time over the session's context: a question first, else the prefix's next part."""
        self._answers.audio_passed(self._segmenter.position, now)
        if self._horizon.appending or self._answers.running:
            return
        question = self._answers.next()
        while question is not None:
            since = 0
            if question.last_s is not None:
                since = max(0, self._segmenter.position - round(question.last_s * SAMPLE_RATE))
            asked = self._engine.count(question.text)
            body = self._horizon.body(since, self._tail(), self._tail_notes(), asked)
            if body is not None:
                self._jobs.append(self._answers.begin(question, body))
                return
            self._keeping.say(self._answers.nothing_heard(question, seconds(self._segmenter.position)))
            question = self._answers.next()
        extend = self._horizon.next_extend(quiet=self._quiet())
        if extend is not None:
            self._jobs.append(extend)

    def _quiet(self) -> bool:
        open_now = self._segmenter.open_window or self._segmenter.open_utterance
        return open_now is None and self._captions.oldest_waiting is None

    def _tail(self) -> tuple[Sound, int, int] | None:
        """The open window as heard so far, with its range."""
        span = self._segmenter.open_window
        tokens = self._engine.frames(span.end - span.start) if span else 0
        if span is None or not tokens:
            return None
        return Sound(self._segmenter.read(span.start, span.end), tokens), span.start, span.end

    def _tail_notes(self) -> str:
        """Captions of what no closed window holds: the final ones, then what is heard so far."""
        lines = [line.text for line in self._captions.lines if line.end > self._horizon.end]
        return " ".join([*lines, self._captions.draft]).strip()

    def _cancel(self, question_id: str) -> None:
        job, answer = self._answers.cancel(question_id, seconds(self._segmenter.position))
        if job is not None:
            self._cancelled.append(job)
        if answer is not None:
            self._keeping.say([answer])

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _ack(self) -> m.Ack:
        return m.Ack(self._intake.received, self._processed(), self.durable)

    def _acknowledge(self, now: float) -> None:
        ack = self._ack()
        if ack != self._acked and (now >= self._acked_at + ACK_EVERY_S or self.state is not State.OPEN):
            self._acked, self._acked_at = ack, now
            self._keeping.say([ack])

    def _degrade(self) -> None:
        level: m.Level = "none"
        if self.lag_s > DROP_INTERIMS_LAG_S:
            level = "interims_dropped"
        elif self._captions.stretched:
            level = "interims_stretched"
        if level != self._level:
            self._level = level
            self._keeping.say([m.Degraded(level, round(self.lag_s, 3))])

    def _deliver_flushes(self) -> None:
        if self._flushes and self._captions.oldest_waiting is None:
            self._keeping.say(self._flushes)
            self._flushes = []

    def _finished(self) -> bool:
        kept = not self._keeping.journaled or self._keeping.durable == self._intake.received
        heard = self._captions.oldest_waiting is None and self._horizon.oldest_unencoded is None
        return kept and heard and self._answers.idle

    def _open_only(self) -> None:
        if self.state is not State.OPEN:
            raise NoSession("the session takes no more audio")

    def greet(self, token: str = "", last_event: int = 0) -> list[m.ServerMessage]:
        """What a client is told first: how the session is set up and where it stands, and the events it missed.

        Args:
            token: what it may resume with.
            last_event: the newest event it knows.
        """
        ready = msgspec.structs.replace(
            describe(self._engine, self._config, self._intake.format, self._mode),
            session=self.id,
            resume=token,
            received=self._intake.received,
            processed=self._processed(),
            durable=self.durable,
            last_event=self._keeping.event,
        )
        ended = [self._ledger.ended(self._intake)] if self.state is State.ENDED and self.over else []
        return [ready, *self._keeping.since(last_event), *ended]
