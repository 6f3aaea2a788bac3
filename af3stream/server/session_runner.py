"""Run one session: connect it to its peer, the engine and the journal. It outlives connections."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from af3stream.engine.contract import AudioSegment, AudioSource
from af3stream.engine.engine_core import Resident
from af3stream.engine.jobs import Job, Result
from af3stream.engine.request import Report
from af3stream.errors import Refusal, StorageError, StorageFull, Superseded
from af3stream.journal.facts import Commit
from af3stream.journal.journal import Journal
from af3stream.journal.records import EventRecord, Record
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.lifecycle import State
from af3stream.session.session import Session

log = logging.getLogger(__name__)

RETRY_S = 1.0  # delay before records that the journal refused are appended again


class Peer(Protocol):
    """The receiver of a session's messages: a connection.

    Attributes:
        resumes: whether its client can resume the session over another connection.
    """

    resumes: bool

    def tell(self, messages: Sequence[m.ServerMessage]) -> None:
        """Queue messages for the client, in order."""

    def greet(self, messages: Sequence[m.ServerMessage]) -> None:
        """Queue the first messages of a connection, however many there are."""

    def session_over(self, state: State) -> None:
        """Close after the queued messages."""

    def supersede(self) -> None:
        """Disconnect: another connection took over the session."""

    def fail(self) -> None:
        """Disconnect because of an internal error."""


class Jobs(Protocol):
    """What runs the jobs of sessions: the worker."""

    def open(self, session: str, source: AudioSource, resident: Resident) -> None:
        """Prepare for a session."""

    def submit(self, session: str, job: Job, report: Report) -> None:
        """Queue a job. ``report`` is called from another thread, in order, the last time with ``done``."""

    def cancel(self, session: str, job: int) -> None:
        """Drop the job with this id."""

    def attach(self, session: str) -> None:
        """Run the jobs of a session in their turn."""

    def detach(self, session: str) -> None:
        """Run the jobs of a session only when no other session has work."""

    def close(self, session: str) -> None:
        """Drop the session's jobs and its context."""


class SessionRunner:
    """Carry out the effects of a session: engine jobs, journal records, messages and timers.

    Everything runs on the event loop. Reports of the engine and the journal are handed over to it.

    Args:
        journal: where the session is kept, or ``None``.
        user: the user that the session belongs to.
        on_superseded: called once another server has taken the session. Nothing of it is acknowledged any more.
    """

    def __init__(
        self,
        session: Session,
        worker: Jobs,
        journal: Journal | None,
        user: str,
        metrics: Metrics,
        on_superseded: Callable[[SessionRunner], None] | None = None,
    ) -> None:
        self.session = session
        self.user = user
        self.peer: Peer | None = None
        self.token = b""  # hash of the newest token, which `ready` carried
        self._worker = worker
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._metrics = metrics
        self._on_superseded = on_superseded
        self._unwritten: deque[tuple[float, Record]] = deque()  # appended when, not durable; bounded by the credit
        self._failing = False  # whether the client was told about the disk error
        self._closed = False
        worker.open(session.id, session.audio_source, self._resident)

    def attach(self, peer: Peer) -> None:
        """Attach a peer, instead of the current one."""
        self.peer = peer
        self._worker.attach(self.session.id)

    def detach(self) -> None:
        """Detach the peer. The jobs of the session then run only when no other session has work."""
        self.peer = None
        self._worker.detach(self.session.id)

    def receive(self, message: m.ClientMessage, peer: Peer, user: str) -> None:
        """Process a message of the client.

        Raises:
            Superseded: if the session no longer belongs to this peer or user.
            Refusal: if the message is refused.
        """
        if peer is not self.peer or user != self.user:
            raise superseded()
        try:
            self.session.receive(message, time.monotonic())
        finally:
            self.pump()

    def refuse_others(self, refusing: bool) -> None:
        """Tell the session whether the server admits new sessions."""
        self.session.refuse_others(refusing, time.monotonic())
        self.pump()

    def drain(self) -> None:
        """Accept no more audio, and finish what is pending."""
        self.session.drain(time.monotonic())
        self.pump()

    def pump(self) -> None:
        """Carry out all pending effects of the session."""
        if self._closed:
            return
        session = self.session
        for job in session.take_cancelled():
            self._worker.cancel(session.id, job.id)
        for job in session.take_jobs():
            self._worker.submit(session.id, job, self._report)
        self._write(session.take_records())
        messages = session.take_messages()
        if self.peer:
            self.peer.tell(messages)
            if session.over:
                self.peer.session_over(session.state)
        self._set_timer()

    async def close(self) -> None:
        """Release the session from memory. Later reports of the engine are ignored."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._timer, self._retry):
            if timer:
                timer.cancel()
        self._worker.close(self.session.id)
        if self._journal:
            leave = self._journal.finish if self.session.state is State.ENDED else self._journal.release
            try:
                await asyncio.to_thread(leave, self.session.id)
            except StorageError as error:  # the acknowledged data is safe without this
                log.warning("the journal cannot close a session: session=%s error=%s", self.session.id, error.code)
        log.info("session closed: session=%s state=%s", self.session.id, self.session.state.value)

    def _write(self, records: Sequence[Record]) -> None:
        if self._journal and records:
            now = time.monotonic()
            self._unwritten.extend((now, record) for record in records)
            self._journal.append(self.session.id, records, self._written)

    def _report(self, job: Job, result: Result, done: bool) -> None:
        """Receive a result on the engine's thread."""
        self._hand_over(lambda: self.session.complete(job, result, done, time.monotonic()))

    def _resident(self, windows: frozenset[AudioSegment]) -> None:
        """Called on the engine's thread."""
        self._hand_over(lambda: self.session.note_resident(windows))

    def _written(self, commit: Commit) -> None:
        """Receive a commit on the journal's thread."""
        self._hand_over(lambda: self._commit(commit))

    def _commit(self, commit: Commit) -> None:
        if commit.superseded:
            if self._on_superseded:
                self._on_superseded(self)
            return
        if commit.error and not self._failing:
            log.error("the journal cannot write: session=%s error=%s", self.session.id, commit.error)
            if self.peer:
                self.peer.tell([_storage_refusal(commit.error, commit.durable)])
        self._failing = commit.error is not None
        now = time.monotonic()
        if self._unwritten and _is_durable(self._unwritten[0][1], commit):
            self._metrics.commit.observe(now - self._unwritten[0][0])
        while self._unwritten and _is_durable(self._unwritten[0][1], commit):
            self._unwritten.popleft()
        if commit.refused and self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._append_again)
        self.session.committed(commit.durable, commit.event, now)

    def _append_again(self) -> None:
        self._retry = None
        if self._journal and not self._closed:
            self._journal.append(self.session.id, [record for _, record in self._unwritten], self._written)

    def _hand_over(self, act: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._do, act)
        except RuntimeError:  # the event loop is closed: the server has stopped
            log.debug("a report arrived after the server stopped")

    def _do(self, act: Callable[[], None]) -> None:
        if self._closed:
            return
        try:
            act()
            self.pump()
        except Exception:
            log.exception("internal error: session=%s", self.session.id)
            if self.peer:
                self.peer.fail()

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        deadline = self.session.next_deadline
        if deadline is not None and self.session.state is not State.ENDED:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._do, self._wake)

    def _wake(self) -> None:
        self.session.advance(time.monotonic())


def superseded() -> Superseded:
    """Return the error for a peer that lost its session to another."""
    return Superseded("another connection resumed this session")


def _is_durable(record: Record, commit: Commit) -> bool:
    if isinstance(record, EventRecord):
        return record.number <= commit.event
    return record.end <= commit.durable


def _storage_refusal(error: str, durable: int) -> m.Error:
    refusal: Refusal = StorageFull() if error == "storage_full" else StorageError()
    return m.error(refusal, durable=durable)
