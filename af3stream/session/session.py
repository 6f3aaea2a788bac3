"""The conversation's state machine: messages and results in, messages and jobs out.

    receive(message, now)        what the client sent
    complete(job, result, now)   what the engine reports
    advance(now)                 time has passed; `next_deadline` says when to call it
    take_messages(), take_jobs(), take_cancelled()    what is to be sent, run and dropped; pulling empties

``now`` is monotonic seconds. Audio time is a sample index at 16 kHz everywhere inside.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from math import inf
from typing import Final

import msgspec

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.pcm import AudioFormat
from af3stream.config import Config
from af3stream.engine.contract import Engine, note
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    Job,
    PrefixLost,
    Restarted,
    Result,
    ReviseJob,
    VoiceJob,
)
from af3stream.errors import (
    BadFormat,
    EngineRestart,
    NoSession,
    QueryLimit,
    Refusal,
    UnknownQuestion,
    UnknownSpeaker,
)
from af3stream.journal.facts import Recovered
from af3stream.journal.records import Record
from af3stream.metrics import Metrics
from af3stream.models.card import Frames, Notes
from af3stream.protocol import messages as m
from af3stream.session.audio_pipeline import AudioPipeline
from af3stream.session.audio_replay import AudioReplay, Recorded
from af3stream.session.caption_track import Wanted
from af3stream.session.event_log import EventLog, decode_event
from af3stream.session.greeting import describe
from af3stream.session.ledger import seconds
from af3stream.session.load_shedder import DROP_INTERIMS_LAG_S, LoadShedder
from af3stream.session.questions import Question, Questions, Wait
from af3stream.session.rate_limiter import RateLimiter
from af3stream.session.recovery import replay

ACK_EVERY_S: Final = 0.2
MOST_FLUSHES: Final = 64  # that wait for captions


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
        frames: which windows stand in the prompt as audio.
        recorded: the session's audio as the journal has it; ``None`` where nothing is kept.

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
        frames: Frames = "all",
        recorded: Recorded | None = None,
    ) -> None:
        self.id = session_id
        self.state = State.OPEN
        self._config = config
        self._engine = engine
        self._format = AudioFormat(start.format, start.rate, start.channels)
        self._recall = AudioReplay(self._format, recorded, keep=config.model.embeddings_budget_mb > 0)
        self._hearing = AudioPipeline(
            start, config=config, engine=engine, notes=notes, frames=frames, metrics=metrics, recall=self._recall
        )
        self._keeping = EventLog(journaled=recorded is not None)
        self._questions = Questions(config.questions, metrics, self._keeping.exchanges, engine.count_turn)
        self._ladder = LoadShedder()
        self._pace = RateLimiter(config.questions.per_s)
        self._flushes: deque[tuple[int, m.Flushed]] = deque()  # utterances before each
        self._jobs: list[Job] = []
        self._cancelled: list[Job] = []
        self._acked = m.Ack(0, 0, self.durable)
        self._acked_at = -inf

    def restore(self, recovered: Recovered) -> None:
        """Become again what the journal kept: the same utterances, windows and words, in a session just made.

        Raises:
            DataLoss: where something that was acknowledged is damaged or missing.
        """
        events = [(record.number, decode_event(record)) for record in recovered.events]
        self._recall.durable(recovered.durable)
        replay(self._hearing, recovered.audio, [kept for _, kept in events], ended=recovered.finished)
        self._keeping.restore(recovered.durable, events)
        if recovered.finished:
            self.state = State.ENDED

    # ---- in ----------------------------------------------------------------------------------------------------------

    def receive(self, message: m.ClientMessage, now: float) -> None:
        """Take one message.

        Raises:
            Refusal: where it is refused; nothing of it is kept then.
        """
        if self.state is State.ENDED and not isinstance(message, m.End):
            raise NoSession("the session has ended")
        if isinstance(message, m.Ask | m.Cancel | m.Watch | m.Unwatch | m.Flush):
            self._pace.spend(message.id, now)
        match message:
            case m.Audio() | m.Gap():
                self._take_audio(message, now)
            case m.Ask():
                if message.id not in self._keeping.answered:
                    self._questions.ask(message, now)
                else:
                    self._questions.asked_again(message)
            case m.Cancel(id=question):
                self._cancel(question)
            case m.Watch():
                self._questions.watch(message)
            case m.Unwatch(id=watch):
                self._questions.unwatch(watch)
            case m.Flush(id=flush):
                self._flush(flush)
            case m.NameSpeaker():
                self._pace.spend(None, now)
                self._name_speaker(message)
            case m.End(total=total):
                if self.state is not State.OPEN and total == self._received:
                    return  # sent again by a client that resumed
                self._open_only()
                self._keeping.say(self._hearing.end(total, now))
                self.state = State.ENDING
            case m.Start():
                if (found := AudioFormat(message.format, message.rate, message.channels)) != self._format:
                    raise BadFormat(f"the session's audio is {self._format}, and stays so; found {found}")
                raise NoSession("the session is already open")
        self.advance(now)

    def complete(self, job: Job, result: Result, done: bool, now: float) -> None:
        """Take what the engine reports of a job: pieces while it runs, and ``done`` with the last."""
        if isinstance(result, Restarted):
            self._keeping.say([m.error(EngineRestart("the engine ran out of memory, and does its work once more"))])
            return
        match job:
            case CaptionJob():
                self._keeping.say(self._hearing.captioned(job, result, now))
            case VoiceJob():
                told = self._hearing.heard_voices(job, result)
                for divided in self._hearing.divided:
                    self._keeping.divided(divided)
                self._hearing.divided = []
                self._keeping.say(told)
            case ReviseJob():
                self._keeping.say(self._hearing.revised(job, result))
                self._keeping.revised(job.window)
            case EncodeJob():
                self._tell_windows(self._hearing.encoded(job, result))
            case ExtendJob() if done:
                self._hearing.horizon.extended(job)
            case AnswerJob():
                if isinstance(result, PrefixLost):
                    self._hearing.horizon.lost(job)
                self._keeping.say(self._questions.heard(job, result, done, now))
        self.advance(now)

    def committed(self, durable: int, record: int, now: float) -> None:
        """The journal has written so many sample frames, and so many records of events and cuts."""
        self._keeping.committed(durable, record)
        self._recall.durable(self._keeping.durable)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Do what is due by ``now``."""
        self._tell_windows(self._hearing.settle())
        self._keeping.say(self._ladder.step(self.lag_s, stretched=self._hearing.captions.stretched))
        if not self._ladder.drops_interims:
            self._hearing.interim(now)
        self._ask_next(now)
        if extend := self._hearing.horizon.next_extend():
            self._jobs.append(extend)
        self._acknowledge(now)
        self._deliver_flushes()
        if self.state is State.ENDING and self._finished():
            self._keeping.say([self._hearing.ended()])
            self.state = State.ENDED
        if self.state is State.DRAINING and self._finished():
            self.state = State.DRAINED

    def refuse_others(self, refusing: bool, now: float) -> None:
        """The server takes no new sessions, or does again: the last step of the ladder."""
        if refusing != self._ladder.refusing:
            self._ladder.refusing = refusing
            self.advance(now)

    def drain(self, now: float) -> None:
        """Take no more audio, and finish what is pending: the server is going away."""
        if self.state is State.OPEN:
            self._cut()
            self.state = State.DRAINING
            self.advance(now)

    @property
    def next_deadline(self) -> float | None:
        """When `advance` is due next, in clock seconds; ``None`` while nothing waits for time to pass."""
        deadlines = [self._acked_at + ACK_EVERY_S] if self._ack() != self._acked else []
        if (waits_until := self._questions.waits_until) is not None:
            deadlines.append(waits_until)
        return min(deadlines, default=None)

    # ---- out ---------------------------------------------------------------------------------------------------------

    def take_messages(self) -> list[m.ServerMessage]:
        """What is to be sent, in order."""
        return self._keeping.take_messages()

    def take_records(self) -> list[Record]:
        """What is to be made durable, in order; `committed` says when it is."""
        return self._keeping.take_records()

    def take_jobs(self) -> list[Job]:
        """What the engine is to do."""
        jobs = [*self._hearing.jobs, *self._jobs]
        self._hearing.jobs, self._jobs = [], []
        return jobs

    def take_cancelled(self) -> list[Job]:
        """What the engine need not do any more."""
        jobs = [*self._hearing.cancelled, *self._cancelled]
        self._hearing.cancelled, self._cancelled = [], []
        return jobs

    @property
    def over(self) -> bool:
        """Whether everything is told, and nothing follows."""
        return self.state in (State.ENDED, State.DRAINED) and not self._keeping.waiting

    @property
    def owing(self) -> bool:
        """Whether the client waits for an answer, or for the end."""
        return self.state is State.ENDING or not self._questions.idle

    @property
    def durable(self) -> int | None:
        """Client frames that are on disk; ``None`` where nothing is kept."""
        return self._keeping.durable if self._keeping.journaled else None

    @property
    def last_event(self) -> int:
        """The number of the newest event that a client may know."""
        return self._keeping.last_event

    @property
    def lag_s(self) -> float:
        """Seconds of audio that came since the oldest piece of work that is not done became due."""
        return self._hearing.lag_s

    # ---- audio -------------------------------------------------------------------------------------------------------

    @property
    def _received(self) -> int:
        return self._hearing.intake.received

    def _take_audio(self, message: m.Audio | m.Gap, now: float) -> None:
        if self.state in (State.DRAINING, State.DRAINED):
            return  # not received; the client sends it again when it resumes
        self._open_only()
        hearing, limit = self._hearing, self._credit()
        try:
            if isinstance(message, m.Gap):
                told = hearing.gap(message.offset, message.frames, limit, now)
                self._keeping.gap(message.offset, message.frames)
            elif (heard := hearing.audio(message.offset, message.pcm, limit, now)) is not None:
                told = heard
                self._keeping.audio(message.offset, message.pcm, self._format.frames(message.pcm))
            else:
                return
        except Refusal as refusal:
            refusal.expected_offset = self._received
            raise
        self._keeping.say(told)

    def _flush(self, name: str) -> None:
        if len(self._flushes) >= MOST_FLUSHES:
            raise QueryLimit(f"at most {MOST_FLUSHES} flushes may wait at once", ref=name)
        self._cut()
        self._flushes.append((self._hearing.utterances, m.Flushed(name, self._received)))

    def _cut(self) -> None:
        """Close what is open, here; what comes after a restart is cut here, too."""
        self._keeping.cut(self._received)
        self._keeping.say(self._hearing.cut())

    def _credit(self) -> int:
        """The first client frame that may not be sent yet."""
        return self._processed() + round(self._config.server.credit_s * self._format.rate)

    def _processed(self) -> int:
        """Client frames before everything that is open or waiting, or not durable."""
        reached = self._hearing.processed(listening=self.state is State.OPEN)
        if self._keeping.journaled:
            reached = min(reached, self._keeping.durable)
        return max(self._acked.processed, reached)

    def _name_speaker(self, message: m.NameSpeaker) -> None:
        speakers = self._hearing.speakers
        if speakers is None:
            raise UnknownSpeaker("the session does not tell speakers apart")
        name = speakers.name(message.speaker, message.name)
        if name is not None:
            self._keeping.say([m.SpeakerNamed(message.speaker, name)])

    # ---- questions ---------------------------------------------------------------------------------------------------

    def _ask_next(self, now: float) -> None:
        """Run the question whose turn it is, once it has the words that it waits for, or has waited long enough."""
        self._questions.audio_passed(self._hearing.position, now)
        while question := self._questions.turn:
            wait = question.wait or self._wait(question, now)
            if now < wait.until and not self._hearing.captions.has(wait.wanted):
                return
            try:
                self._run(question)
            except UnknownQuestion as refusal:
                self._questions.refuse(question)
                self._keeping.say([m.error(refusal)])

    def _wait(self, question: Question, now: float) -> Wait:
        """Have a question wait for words: not at all where they are too far behind to come in time."""
        patience_s = self._config.questions.captions_wait_s
        if not patience_s or self._hearing.captions_lag_s > DROP_INTERIMS_LAG_S:
            return self._questions.wait(question, Wanted(0, None), now)
        return self._questions.wait(question, self._hearing.wanted(now), now + patience_s)

    def _run(self, question: Question) -> None:
        """Have a question answered over what is there now.

        Raises:
            UnknownQuestion: where it follows up what was not answered.
        """
        hearing, count = self._hearing, self._engine.count
        earlier = self._questions.earlier(question)
        names = note(hearing.speakers.introduction()) if hearing.speakers else note([])
        asked = count(names.text) + count(question.text) + sum(self._engine.count_turn(turn) for turn in earlier)
        since = 0
        if question.last_s is not None:
            since = max(0, hearing.position - round(question.last_s * SAMPLE_RATE))
        body, instead = hearing.horizon.bodies(since, hearing.open_window(), hearing.words(), asked, hearing.wordless())
        if body is None:
            self._keeping.say(self._questions.nothing_heard(question, seconds(hearing.position)))
        else:
            bodies = body.beside(names), instead and instead.beside(names)
            self._jobs.append(self._questions.begin(question, *bodies, earlier))

    def _tell_windows(self, told: list[m.ServerMessage]) -> None:
        """Tell of windows that can be read; watches may be due."""
        self._keeping.say(told)
        if any(isinstance(message, m.Window) for message in told):
            self._questions.window_closed(self._hearing.position)

    def _cancel(self, question_id: str) -> None:
        job, answer = self._questions.cancel(question_id, seconds(self._hearing.position))
        if job is not None:
            self._cancelled.append(job)
        if answer is not None:
            self._keeping.say([answer])

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _ack(self) -> m.Ack:
        return m.Ack(self._received, self._processed(), self.durable)

    def _acknowledge(self, now: float) -> None:
        ack = self._ack()
        if ack != self._acked and (now >= self._acked_at + ACK_EVERY_S or self.state is not State.OPEN):
            self._acked, self._acked_at = ack, now
            self._keeping.say([ack])

    def _deliver_flushes(self) -> None:
        while self._flushes and self._hearing.captions.worded(self._flushes[0][0]):
            self._keeping.say([self._flushes.popleft()[1]])

    def _finished(self) -> bool:
        kept = not self._keeping.journaled or self._keeping.durable == self._received
        return kept and self._hearing.caught_up and self._questions.idle

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
            describe(self._engine, self._config, self._format, self._hearing.mode),
            session=self.id,
            resume=token,
            received=self._received,
            processed=self._processed(),
            durable=self.durable,
            last_event=self.last_event,
            speakers=self._hearing.speakers.wanted if self._hearing.speakers else False,
        )
        ended = [self._hearing.ended()] if self.state is State.ENDED and self.over else []
        return [ready, *self._keeping.since(last_event), *ended]
