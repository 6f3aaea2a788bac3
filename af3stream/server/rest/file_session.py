"""A session of the service over an uploaded file: the same engine and the same words as over a socket."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from msgspec.structs import replace

from af3stream.audio.pcm import AudioFormat
from af3stream.config import Config
from af3stream.engine.contract import AudioSource
from af3stream.engine.engine_core import Resident
from af3stream.engine.facts import EngineFacts
from af3stream.engine.jobs import EncodeJob, ExtendJob, Job
from af3stream.engine.request import Report
from af3stream.errors import EngineError, EngineRestart
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.protocol.features import CAPTION_UPDATES, LANGUAGES, SPEAKERS
from af3stream.server.openai_errors import ApiError
from af3stream.server.session_runner import Jobs, SessionRunner
from af3stream.server.tuned_start import tuned
from af3stream.session.lifecycle import State
from af3stream.session.session import Session

USER: Final = ""  # the file's session is nobody else's: it cannot be resumed
FEATURES: Final = (CAPTION_UPDATES, LANGUAGES, SPEAKERS)


@dataclass(frozen=True, slots=True)
class Engines:
    """The parts of the service that a session needs."""

    config: Config
    facts: EngineFacts
    worker: Jobs
    metrics: Metrics


class FileSession:
    """The session of one file. It is not journaled, and its jobs run only when no live session has work.

    It is a context manager: at its end, the engine drops the session.

    Args:
        captions_only: do not encode windows, because no question follows.

    Attributes:
        ready: how the session is set up.
        sent: sample frames.

    Raises:
        Refusal: for what a session does not take.
    """

    resumes = False

    def __init__(self, start: m.Start, engines: Engines, *, captions_only: bool) -> None:
        config, facts = engines.config, engines.facts
        unhurried = max(config.questions.read_tokens, facts.capacity.positions)
        questions = replace(config.questions, read_tokens=unhurried)
        start = replace(start, interims=False, features=FEATURES)
        self.sent = 0
        self._audio = AudioFormat(start.format, start.rate, start.channels)
        self._jobs = _Jobs(engines.worker, skipped=(EncodeJob, ExtendJob) if captions_only else ())
        session = Session(
            f"file-{secrets.token_hex(8)}",
            start,
            config=tuned(replace(config, questions=questions), start),
            facts=replace(facts, notes="off") if captions_only else facts,
            metrics=engines.metrics,
        )
        self._runner = SessionRunner(session, self._jobs, None, USER, engines.metrics)
        self._told: deque[m.ServerMessage] = deque()
        self._changed = asyncio.Event()
        self._jobs.changed = self._changed.set
        self._failed = False
        self._processed = 0
        self._credit = round(config.server.credit_s * start.rate)
        ready, *_ = session.greet()
        assert isinstance(ready, m.Ready)
        self.ready = ready

    async def __aenter__(self) -> Self:
        self._runner.attach(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.peer = None
        await self._runner.close()

    @property
    def seconds(self) -> float:
        """Seconds of audio sent."""
        return self.sent / self._audio.rate

    async def send(self, blocks: Iterator[bytes], most_s: float) -> AsyncIterator[m.ServerMessage]:
        """Send a file, as fast as the credit allows, and yield the messages of the session.

        Args:
            most_s: the longest audio that is accepted, in seconds.

        Raises:
            ApiError: for a longer file.
            SourceError: if the file is damaged.
            EngineError: if the engine fails.
        """
        while (pcm := await asyncio.to_thread(next, blocks, None)) is not None:
            frames = self._audio.frames(pcm)
            while self.sent + frames > self._processed + self._credit:
                async for message in self._hear():
                    yield message
            self._runner.receive(m.Audio(self.sent, pcm), self, USER)
            self.sent += frames
            if self.seconds > most_s:
                raise ApiError(f"the audio is longer than {most_s:g} s", code="audio_too_long", param="file")
            while self._told:
                yield self._take()

    async def end(self) -> AsyncIterator[m.ServerMessage]:
        """End the audio, and yield the messages up to the end of the session.

        Raises:
            EngineError: if the engine fails.
        """
        self._runner.receive(m.End(self.sent), self, USER)
        while True:
            async for message in self._hear():
                yield message
                if isinstance(message, m.Ended):
                    return

    async def ask(
        self, question: str, max_tokens: int | None, take: Callable[[m.ServerMessage], None]
    ) -> AsyncIterator[m.AnswerDelta | m.Answer]:
        """Ask a question once all audio is captioned and encoded, and yield the answer in pieces.

        Args:
            take: called with each message before the answer.

        Raises:
            Refusal: for a question that is not taken.
            EngineError: if the engine fails.
        """
        self._runner.receive(m.Flush("end"), self, USER)
        flushed = False
        while not (flushed and self._jobs.done):
            async for message in self._hear():
                take(message)
                flushed = flushed or isinstance(message, m.Flushed)
        self._runner.receive(m.Ask("question", question, max_tokens=max_tokens), self, USER)
        while True:
            async for message in self._hear():
                if isinstance(message, m.AnswerDelta | m.Answer):
                    yield message
                if isinstance(message, m.Answer):
                    return

    async def _hear(self) -> AsyncIterator[m.ServerMessage]:
        """Wait for messages or for the end of a job, and yield the messages."""
        if not self._told:
            self._changed.clear()
            await self._changed.wait()
        while self._told:
            yield self._take()
        if self._failed:
            raise EngineError("the server made a mistake")

    def _take(self) -> m.ServerMessage:
        message = self._told.popleft()
        if isinstance(message, m.Ack):
            self._processed = message.processed
        if isinstance(message, m.Error) and message.code != EngineRestart.code:
            raise EngineError(message.message)
        return message

    # ---- what a session says to its peer -----------------------------------------------------------------------------

    def tell(self, messages: Sequence[m.ServerMessage]) -> None:
        """Receive messages of the session, in order."""
        self._told.extend(messages)
        self._changed.set()

    def greet(self, messages: Sequence[m.ServerMessage]) -> None:
        """Receive the first messages of the session."""
        self.tell(messages)

    def session_over(self, state: State) -> None:
        """Do nothing: `ended` is the last message."""

    def supersede(self) -> None:
        """Do nothing: no other connection can resume the session."""

    def fail(self) -> None:
        """Fail the request because of an internal error."""
        self._failed = True
        self._changed.set()


class _Jobs:
    """Runs the jobs of a file on the service's worker.

    Args:
        skipped: kinds of jobs that are not run, because their results are not needed.

    Attributes:
        changed: called when a job is done.
    """

    def __init__(self, worker: Jobs, skipped: tuple[type[Job], ...]) -> None:
        self.changed: Callable[[], None] = _nothing
        self._worker = worker
        self._skipped = skipped
        self._open: set[int] = set()  # by id
        self._loop = asyncio.get_running_loop()

    @property
    def done(self) -> bool:
        """Whether no job is pending."""
        return not self._open

    def open(self, session: str, source: AudioSource, resident: Resident) -> None:
        """Prepare for the session."""
        self._worker.open(session, source, resident)

    def submit(self, session: str, job: Job, report: Report) -> None:
        """Queue a job."""
        if isinstance(job, self._skipped):
            report(job, None, True)
            return
        self._open.add(job.id)

        def count(job: Job, result: object, done: bool) -> None:
            report(job, result, done)  # type: ignore[arg-type]
            if done:
                self._loop.call_soon_threadsafe(self._finish, job.id)

        self._worker.submit(session, job, count)

    def cancel(self, session: str, job: int) -> None:
        """Drop the job with this id."""
        self._finish(job)
        self._worker.cancel(session, job)

    def attach(self, session: str) -> None:
        """Run the jobs only when no live session has work."""
        self._worker.detach(session)

    def detach(self, session: str) -> None:
        """Do nothing."""

    def close(self, session: str) -> None:
        """Drop the session's jobs and its context."""
        self._worker.close(session)

    def _finish(self, job: int) -> None:
        self._open.discard(job)
        self.changed()


def _nothing() -> None:
    pass
