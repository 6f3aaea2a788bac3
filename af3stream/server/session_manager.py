"""Open, resume, keep and recover the sessions of a server."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from weakref import WeakValueDictionary

import msgspec

from af3stream.audio.pcm import AudioFormat
from af3stream.config import Config
from af3stream.errors import DataLoss, NoSession, ShuttingDown, StorageError
from af3stream.journal.facts import SessionFacts
from af3stream.journal.journal import Journal
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.server.backend import Backend
from af3stream.server.session_runner import Peer, SessionRunner
from af3stream.server.tuned_start import TunedStart, tuned
from af3stream.session.event_log import HistoryEntry, decode_event, read_history
from af3stream.session.session import Session
from af3stream.tracing import Tracing

log = logging.getLogger(__name__)

NO_SUCH = "there is no such session"  # the same text for every reason, so that it reveals nothing
RETRY_AFTER_MS = 1_000  # for clients during a restart of the server
NAMES = "."  # follows the session's id in a resume token; tokens of older versions have none
HISTORY_READS = 3  # reads of the journal per resume; meanwhile, more events may leave the memory


class SessionManager:
    """The sessions in memory, by id, with access to those that are only on disk.

    Args:
        journal: where sessions are kept; ``None``: a session ends with its connection.
        tracing: makes spans; ``None``: nothing is traced.
    """

    def __init__(
        self,
        *,
        config: Config,
        backend: Backend,
        journal: Journal | None,
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        self._config = config
        self._backend = backend
        self._journal = journal
        self._metrics = metrics
        self._tracing = tracing
        self._hosts: dict[str, SessionRunner] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._resuming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by session
        self._recovering = asyncio.Lock()  # one at a time: a recovery uses a whole core
        self._noting: set[asyncio.Future[None]] = set()
        self._draining = False
        self._refusing = False

    @property
    def lags_s(self) -> list[float]:
        """The lag of every session with a connection. Sessions without one get idle time only, and delay no other."""
        return [host.session.lag_s for host in self._hosts.values() if host.peer]

    def awaits(self, user: str) -> bool:
        """Return whether a session of this user has lost its connection and may be resumed."""
        return any(self._hosts[session_id].user == user for session_id in self._leaving)

    async def open(self, start: m.Start, user: str, peer: Peer) -> SessionRunner:
        """Open a new session, or resume the one that ``start`` names, and attach the peer to it.

        Raises:
            BadFormat: if the audio format is not supported.
            NoSession: if the token resumes no session of this user.
            DataLoss: if the client knows of more data than there is, or the journal is damaged.
            Superseded: if another server takes the session at the same time.
            ShuttingDown: if the server is shutting down, or has released the session meanwhile.
        """
        if start.resume is None:
            self._stay_open()
            return await self._attach(await self._create(start, user), start, peer)
        facts = await self._known(start.resume, user)
        async with self._resuming.setdefault(
            facts.session, asyncio.Lock()
        ):  # serialises two clients that resume one session
            self._stay_open()
            return await self._attach(await self._resume(start.resume, user), start, peer)

    def _stay_open(self) -> None:
        if self._draining:
            raise going_away()

    async def _attach(self, host: SessionRunner, start: m.Start, peer: Peer) -> SessionRunner:
        """Attach a session to a peer, and detach it from another."""
        session_id = host.session.id
        try:
            token = await self._new_token(host, start.resume)
            older = await self._older_events(host.session, start.last_event)
            _check_resume(host, start)
            if self._hosts.get(session_id) is not host:
                raise ShuttingDown("the session was released meanwhile", retry_after_ms=RETRY_AFTER_MS)
        except BaseException:  # nothing else would release a session that has no peer
            if self._hosts.get(session_id) is host and host.peer is None and session_id not in self._leaving:
                self._close(host)
            raise
        if leaving := self._leaving.pop(session_id, None):
            leaving.cancel()
        if host.peer:
            host.peer.supersede()
        host.pump()  # discard messages from the time without a peer
        host.attach(peer)
        peer.greet(host.session.greet(token, start.last_event, older))
        host.pump()
        return host

    async def confirm(self, host: SessionRunner) -> None:
        """Record that the peer has its newest token, which invalidates the previous one."""
        if self._journal:
            try:
                await asyncio.to_thread(self._journal.confirm_token, host.session.id, host.token)
            except StorageError as error:  # the previous token stays valid until the next one is confirmed
                log.warning("a token cannot be confirmed: session=%s error=%s", host.session.id, error.code)

    def leave(self, host: SessionRunner, peer: Peer, *, for_good: bool) -> None:
        """Detach a peer. Its session stays in memory for a while, unless it is over or cannot be resumed."""
        if host.peer is not peer:
            return
        host.detach()
        if for_good or self._journal is None:
            self._close(host)
            return
        self._release_later(host)

    def refuse_others(self, refusing: bool) -> None:
        """Tell every session whether the server admits new sessions."""
        if refusing != self._refusing:
            self._refusing = refusing
            for host in self._hosts.values():
                host.refuse_others(refusing)

    def placed(self, session_id: str, engine: str) -> None:
        """Record which engine has a session, so that another server finds its caches there."""
        if self._journal and self._journal.shared:
            task = asyncio.ensure_future(asyncio.to_thread(self._journal.set_engine, session_id, engine))
            self._noting.add(task)
            task.add_done_callback(self._noted)

    def superseded(self, session_id: str) -> None:
        """Close a session that another server has at its engine."""
        if host := self._hosts.get(session_id):
            self._supersede(host)

    async def renew_leases(self) -> None:
        """Renew the leases of a shared journal, and close the sessions that another server has taken."""
        journal = self._journal
        if journal is None or not journal.shared:
            return
        for session_id in await asyncio.to_thread(journal.renew):
            host = self._hosts.get(session_id)
            if host and not await asyncio.to_thread(journal.holds, session_id):  # else it was taken back meanwhile
                self._supersede(host)

    def drain(self, *, hand_over: bool = False) -> None:
        """Let every session finish what is pending, and open no more.

        Args:
            hand_over: except those whose clients can resume them at another server.
        """
        self._draining = True
        for host in self._hosts.values():
            if not hand_over or (host.peer and not host.peer.resumes):
                host.drain()

    async def close(self) -> None:
        """Close all sessions."""
        for host in list(self._hosts.values()):
            self._close(host)
        await asyncio.gather(*self._closing.values())

    async def _create(self, start: m.Start, user: str) -> SessionRunner:
        session = self._session(secrets.token_hex(8), start)
        if journal := self._journal:
            audio_format = AudioFormat(start.format, start.rate, start.channels)
            opening = msgspec.json.encode(start)
            facts = SessionFacts(session.id, user, audio_format, opening, time.time(), self._backend.facts.name)
            async with _released_on_failure(journal, session.id):
                await asyncio.to_thread(journal.create, facts)
                await self._expect(journal, session.id)
        log.info("session opened: session=%s rate=%d channels=%d", session.id, start.rate, start.channels)
        return self._admit(session, user)

    async def _known(self, token: str, user: str) -> SessionFacts:
        """Return the session that a token resumes for a user.

        Raises:
            NoSession: if there is none.
        """
        journal = self._journal
        session_id, facts = None, None
        if journal:
            session_id = await asyncio.to_thread(journal.session_of_token, _hash(token), _session_in(token))
        if journal and session_id:
            facts = await asyncio.to_thread(journal.facts, session_id)
        if facts is None or facts.user != user:
            raise NoSession(NO_SUCH)
        return facts

    async def _resume(self, token: str, user: str) -> SessionRunner:
        facts, journal = await self._known(token, user), self._journal
        assert journal
        host = self._hosts.get(facts.session)
        if host and not await asyncio.to_thread(journal.holds, facts.session):
            self._supersede(host)  # another server took the session, and now its client is here again
        if closing := self._closing.get(facts.session):
            await closing
        await asyncio.to_thread(journal.take, facts.session)
        host = self._hosts.get(facts.session)
        if host is None:
            async with self._recovering, _released_on_failure(journal, facts.session):
                host = await self._recover(journal, facts)
        log.info("session resumed: session=%s", facts.session)
        return host

    async def _recover(self, journal: Journal, facts: SessionFacts) -> SessionRunner:
        """Load a session from disk into memory, after it has been released there."""
        if closing := self._closing.get(facts.session):
            await closing
        session = self._session(facts.session, msgspec.json.decode(facts.start, type=TunedStart))
        recovered = await asyncio.to_thread(journal.recover, facts.session)
        await asyncio.to_thread(session.restore, recovered)
        await self._expect(journal, facts.session)
        log.info("session recovered: session=%s frames=%d", facts.session, recovered.durable)
        return self._admit(session, facts.user)

    async def _expect(self, journal: Journal, session_id: str) -> None:
        """Tell the backend of the lease of a session that is opened next."""
        if journal.shared and (lease := await asyncio.to_thread(journal.lease, session_id)):
            self._backend.expect(session_id, lease.fence, lease.engine)

    def _session(self, session_id: str, start: m.Start) -> Session:
        return Session(
            session_id,
            start,
            config=tuned(self._config, start),
            facts=self._backend.facts,
            metrics=self._metrics,
            recorded=partial(self._journal.audio, session_id) if self._journal else None,
            tracing=self._tracing,
        )

    def _admit(self, session: Session, user: str) -> SessionRunner:
        self._make_room()
        host = SessionRunner(session, self._backend.jobs, self._journal, user, self._metrics, self._supersede)
        self._hosts[session.id] = host
        host.refuse_others(self._refusing)
        return host

    def _noted(self, task: asyncio.Future[None]) -> None:
        self._noting.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("an engine cannot be recorded: error=%s", type(error).__name__)

    def _make_room(self) -> None:
        """Release sessions without a connection to make room for one with a connection."""
        alone = [session_id for session_id in self._leaving if not self._is_resuming(session_id)]
        while alone and len(self._hosts) >= self._config.server.max_sessions:
            self._close(self._hosts[alone.pop(0)])

    def _release_later(self, host: SessionRunner) -> None:
        """Release a session after `server.resume_s` seconds, unless a client resumes it before."""
        loop = asyncio.get_running_loop()
        self._leaving[host.session.id] = loop.call_later(self._config.server.resume_s, self._expire, host)

    def _expire(self, host: SessionRunner) -> None:
        """Release a session that has no connection. If a client is resuming it now, wait once more."""
        if self._is_resuming(host.session.id):
            self._release_later(host)
        else:
            self._close(host)

    def _is_resuming(self, session_id: str) -> bool:
        """Return whether a client is resuming a session."""
        lock = self._resuming.get(session_id)
        return lock is not None and lock.locked()

    def _supersede(self, host: SessionRunner) -> None:
        """Close a session that another server has taken, and tell its peer."""
        if self._hosts.get(host.session.id) is host:
            log.info("session superseded: session=%s", host.session.id)
            if host.peer:
                host.peer.supersede()
                host.detach()
            self._close(host)

    def _close(self, host: SessionRunner) -> None:
        session_id = host.session.id
        self._hosts.pop(session_id, None)
        if leaving := self._leaving.pop(session_id, None):
            leaving.cancel()
        task = self._closing[session_id] = asyncio.ensure_future(host.close())
        task.add_done_callback(lambda _: self._closing.pop(session_id))

    async def _new_token(self, host: SessionRunner, used: str | None) -> str:
        """Create the next token of a session. The previous one stays valid until the peer confirms this one."""
        if self._journal is None:
            return ""
        token = f"{host.session.id}{NAMES}{secrets.token_urlsafe(32)}"
        expires_at = time.time() + self._config.journal.retention_h * 3_600
        before, newest = _hash(used) if used else None, _hash(token)
        await asyncio.to_thread(self._journal.set_token, host.session.id, newest, expires_at, before)
        host.token = newest
        return token

    async def _older_events(self, session: Session, last_event: int) -> list[HistoryEntry]:
        """Return the journal's history if a client missed events that are no longer in memory, else nothing.

        Raises:
            DataLoss: if they are not in the journal either.
        """
        older: list[HistoryEntry] = []
        for _ in range(HISTORY_READS):
            if session.remembers(last_event, older):
                return older
            if self._journal is not None:
                older = await asyncio.to_thread(_history, self._journal, session.id)
        raise DataLoss("events", last_event + 1, session.last_event + 1)


@asynccontextmanager
async def _released_on_failure(journal: Journal, session_id: str) -> AsyncIterator[None]:
    """Release a session in the journal if it cannot be opened. Otherwise its lease would be renewed for ever."""
    try:
        yield
    except BaseException:
        try:
            await asyncio.to_thread(journal.release, session_id)
        except StorageError as error:
            log.warning("the journal cannot close a session: session=%s error=%s", session_id, error.code)
        raise


def going_away() -> ShuttingDown:
    """Return the error for a client of a server that is shutting down."""
    return ShuttingDown("the server is going away", retry_after_ms=RETRY_AFTER_MS)


def _check_resume(host: SessionRunner, start: m.Start) -> None:
    """Refuse to resume if the client knows of more data than the server has."""
    if start.resume is None:
        return
    durable, last_event = host.session.durable or 0, host.session.last_event
    if start.durable > durable:
        raise DataLoss("sample frames", durable, start.durable)
    if start.last_event > last_event:
        raise DataLoss("events", last_event + 1, start.last_event + 1)


def _history(journal: Journal, session_id: str) -> list[HistoryEntry]:
    """Read and decode a session's kept messages."""
    return read_history((record.number, decode_event(record)) for record in journal.events(session_id))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _session_in(token: str) -> str | None:
    """Return the session that a token names, so that any server of a shared journal finds it; ``None`` for old ones."""
    session_id, separator, _ = token.partition(NAMES)
    return session_id if separator else None
