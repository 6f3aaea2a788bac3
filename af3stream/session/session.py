"""The conversation's state machine: messages and results in, messages and jobs out.

    receive(message, now)        what the client sent
    complete(job, result, now)   what the engine reports
    advance(now)                 time has passed; `next_deadline` says when to call it
    take_messages(), take_records(), take_jobs(), take_cancelled()    what to send, write, run and drop

``now`` is monotonic seconds. Audio time is a sample index at 16 kHz everywhere inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from af3stream.audio.pcm import AudioFormat
from af3stream.config import Config
from af3stream.engine.contract import AudioSegment, AudioSource
from af3stream.engine.facts import EngineFacts
from af3stream.engine.jobs import AnswerJob, Failed, Job, Restarted, Result, ReviseJob, SoundJob
from af3stream.errors import EngineRestart
from af3stream.journal.facts import Recovered
from af3stream.journal.records import Record
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session import server_messages
from af3stream.session.acknowledgements import Acknowledgements
from af3stream.session.audio_pipeline import AudioPipeline
from af3stream.session.audio_replay import AudioReplay, Recorded
from af3stream.session.client_messages import ClientMessages
from af3stream.session.event_log import EventLog, HistoryEntry, decode_event
from af3stream.session.job_tracker import JobTracker
from af3stream.session.lifecycle import Effect, Event, State, transition
from af3stream.session.load_shedder import LoadShedder
from af3stream.session.questions import Questions
from af3stream.session.recovery import replay
from af3stream.session.session_traces import SessionTraces
from af3stream.tracing import Tracing


class Session:
    """One conversation. `lifecycle` says what each event does in each state.

    Args:
        session_id: made by the server.
        start: the client's opening message.
        facts: of the engine.
        recorded: reads the session's audio from the journal; ``None`` if nothing is kept.
        tracing: makes spans; ``None``: nothing is traced.

    Raises:
        BadFormat: for an audio format that the service does not take, or a language, a task or word times that the
            captioner does not have.
        BadText: for a term of the vocabulary without words, or instructions that are not Unicode.
        QueryLimit: for instructions that are too long.
    """

    def __init__(
        self,
        session_id: str,
        start: m.Start,
        *,
        config: Config,
        facts: EngineFacts,
        metrics: Metrics,
        recorded: Recorded | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.id = session_id
        self.state = State.OPEN
        self._config = config
        self._facts = facts
        self._format = AudioFormat(start.format, start.rate, start.channels)
        may_lose = config.model.embeddings_budget_mb > 0 or config.engine.kind == "ray"
        self._replay = AudioReplay(self._format, recorded, keep=may_lose)
        self._jobs = JobTracker()
        self._traces = SessionTraces(tracing, session_id) if tracing else None
        self._pipeline = AudioPipeline(
            start,
            config=config,
            facts=facts,
            metrics=metrics,
            replay=self._replay,
            jobs=self._jobs,
            traces=self._traces,
        )
        self._log = EventLog(journaled=recorded is not None)
        self._questions = Questions(config.questions, facts.tokens, self._pipeline, self._jobs, metrics, self._traces)
        self._shedder = LoadShedder()
        credit = round(config.server.credit_s * self._format.rate)
        self._acknowledgements = Acknowledgements(self._pipeline, self._log, credit)
        self._messages = ClientMessages(
            config.questions,
            facts,
            audio_format=self._format,
            pipeline=self._pipeline,
            questions=self._questions,
            acknowledgements=self._acknowledgements,
            log=self._log,
        )
        self._messages.instruct(start.instructions)

    def restore(self, recovered: Recovered) -> None:
        """Restore the journal's utterances, windows, captions and answers into a new session.

        Raises:
            DataLoss: if something that was acknowledged is damaged or missing.
        """
        records = [(record.number, decode_event(record)) for record in recovered.events]
        self._replay.durable(recovered.durable)
        replay(self._pipeline, recovered.audio, [kept for _, kept in records], ended=recovered.finished)
        self._log.restore(recovered.durable, records)
        for _, kept in records:
            if isinstance(kept, m.Answer):
                self._questions.record(kept)
        if recovered.finished:
            self.state = State.ENDED

    # ---- in ----------------------------------------------------------------------------------------------------------

    def receive(self, message: m.ClientMessage, now: float) -> None:
        """Take one message.

        Raises:
            Refusal: if it is refused; it has no effect then. `NoSession` if the state does not allow it.
        """
        self._note_time(now)
        effect, state = transition(self.state, Event.of(message, self._pipeline.receiver.received))
        if effect is not Effect.IGNORE:
            self._tell(self._messages.take(message, self.state, now))
        self.state = state
        self.advance(now)

    def complete(self, job: Job, result: Result, done: bool, now: float) -> None:
        """Take a result of a job; ``done``: it is the last one."""
        self._note_time(now)
        if isinstance(result, Restarted):
            self._tell([m.error(EngineRestart("the engine ran out of memory, and does its work once more"))])
            return
        self._tell(self._pipeline.complete(job, result, done, now))
        if isinstance(job, ReviseJob):
            self._log.revised(job.window)
        if isinstance(job, SoundJob) and not isinstance(result, Failed):
            self._log.named(job.end)
        if isinstance(job, AnswerJob):
            self._tell(self._questions.complete(job, result, done, now))
        self.advance(now)

    @property
    def audio_source(self) -> AudioSource:
        """Where the engine reads the session's audio again; it may be read from another thread."""
        return self._replay

    def note_resident(self, windows: frozenset[AudioSegment]) -> None:
        """Take the news that the engine has the embeddings of these windows, and of no others."""
        self._pipeline.context.note_resident(windows)

    def committed(self, durable: int, record: int, now: float) -> None:
        """Take the news that the journal has so many sample frames, and records of events up to this one."""
        self._note_time(now)
        self._log.committed(durable, record)
        self._replay.durable(self._log.durable)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Do what is due by ``now``."""
        self._note_time(now)
        self._tell(self._pipeline.settle())
        self._tell(self._shedder.step(self.lag_s, stretched=self._pipeline.track.partial.stretched))
        if not self._shedder.drops_interims:
            self._pipeline.utterance.draft_if_due(now)
        self._tell(self._questions.advance(now))
        self._pipeline.context.extend_prefix()
        if not self._questions.running:  # a running one may read windows that have left the context window
            self._replay.forget_before(self._pipeline.context.start)
        self._tell(self._acknowledgements.take_due(now, self.state))
        if self._finished():
            effect, self.state = transition(self.state, Event.FINISHED)
            self._tell([self._pipeline.ended()] if effect is Effect.SEND_ENDED else [])

    def refuse_others(self, refusing: bool, now: float) -> None:
        """Take the news that the server takes no new sessions, or does again; the client is told."""
        if refusing != self._shedder.refusing:
            self._shedder.refusing = refusing
            self.advance(now)

    def drain(self, now: float) -> None:
        """Take the news that the server shuts down: take no more audio, and finish what is pending."""
        effect, self.state = transition(self.state, Event.DRAIN)
        if effect is Effect.CLOSE_OPEN:
            self._tell(self._messages.cut())
        self.advance(now)

    # ---- out ---------------------------------------------------------------------------------------------------------

    def greet(self, token: str = "", last_event: int = 0, older: Sequence[HistoryEntry] = ()) -> list[m.ServerMessage]:
        """Return the first messages for a client: the session's set-up and position, and the events it missed.

        Args:
            token: what it may resume with.
            last_event: the newest event it knows.
            older: the journal's history if `remembers` says that it is needed.

        Raises:
            DataLoss: if the client missed events that are neither in memory nor in ``older``.
        """
        ready = server_messages.ready(
            self._facts,
            self._config,
            self._format,
            self._pipeline.mode,
            self._pipeline.settings,
            session=self.id,
            resume=token,
            ack=self._acknowledgements.newest(self.state),
            last_event=self.last_event,
            speakers=self._pipeline.told_apart,
        )
        ended = [self._pipeline.ended()] if self.state is State.ENDED and self.over else []
        return [ready, *self._log.since(last_event, older), *ended]

    def remembers(self, last_event: int, older: Sequence[HistoryEntry] = ()) -> bool:
        """Return whether `greet` has all events after this one; if not, it needs the journal's history."""
        return self._log.remembers(last_event, older)

    def take_messages(self) -> list[m.ServerMessage]:
        """Return the messages to send, in order, and empty the outbox."""
        messages = self._log.take_messages()
        if self._traces:
            for message in messages:
                self._traces.told(message)
        return messages

    def take_records(self) -> list[Record]:
        """Return the records to make durable, in order; `committed` must be called once they are."""
        return self._log.take_records()

    def take_jobs(self) -> list[Job]:
        """Return the jobs for the engine."""
        return self._jobs.take_new()

    def take_cancelled(self) -> list[Job]:
        """Return the jobs that the engine need not do any more."""
        return self._jobs.take_cancelled()

    @property
    def next_deadline(self) -> float | None:
        """When `advance` is due next, in clock seconds; ``None`` while nothing waits for time to pass."""
        deadlines = (self._acknowledgements.deadline(self.state), self._questions.waits_until)
        return min((each for each in deadlines if each is not None), default=None)

    @property
    def over(self) -> bool:
        """Whether everything is told, and nothing follows."""
        return self.state in (State.ENDED, State.DRAINED) and not self._log.waiting

    @property
    def owing(self) -> bool:
        """Whether the client waits for an answer, or for the end."""
        return self.state is State.ENDING or not self._questions.idle

    @property
    def durable(self) -> int | None:
        """Client frames that are on disk; ``None`` if nothing is kept."""
        return self._acknowledgements.durable

    @property
    def last_event(self) -> int:
        """The number of the newest event that a client may know."""
        return self._log.last_event

    @property
    def lag_s(self) -> float:
        """Seconds of audio received since the oldest unfinished job became due."""
        return self._pipeline.lag_s

    def _tell(self, messages: Iterable[m.ServerMessage]) -> None:
        """Tell messages, and note those that questions depend on. How utterances were divided goes to the log first."""
        for divided in self._pipeline.take_divided():
            self._log.divided(divided)
        for message in messages:
            told = self._log.tell(message)
            if self._traces:
                self._traces.kept(told)
            if isinstance(told, m.Answer):
                self._questions.record(told)
            elif isinstance(told, m.Window):
                self._questions.window_closed()

    def _note_time(self, now: float) -> None:
        if self._traces:
            self._traces.now = now

    def _finished(self) -> bool:
        """Return whether nothing is pending: all audio is durable and captioned, and all questions are answered."""
        durable = not self._log.journaled or self._log.durable == self._pipeline.receiver.received
        return durable and self._pipeline.caught_up and self._questions.idle
