"""The gateway's end of a link: an engine on another machine, which takes jobs as a worker does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from af3stream.cluster.audio_window import Chunk, SentAudio, packed
from af3stream.cluster.channel import MIB, Channel, checked, keepalive, wire_log
from af3stream.cluster.wire import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    Attach,
    BadFrame,
    Cancel,
    Close,
    Detach,
    EngineLoad,
    FromEngine,
    FromGateway,
    Hello,
    Number,
    Open,
    Read,
    Reported,
    Resident,
    Samples,
    SessionMessage,
    Submit,
    Superseded,
    Welcome,
    encode,
    frame,
    from_engine,
    is_urgent,
)
from af3stream.config import EngineConfig
from af3stream.engine.contract import AudioSegment, AudioSource
from af3stream.engine.engine_core import Resident as Listener
from af3stream.engine.facts import EngineFacts
from af3stream.engine.jobs import Job, samples_of, with_samples
from af3stream.engine.request import Report

log = logging.getLogger(__name__)

READS: Final = 4  # segments that are read from the journal at once
NO_SAMPLES: Final = np.zeros(0, np.float32)


class LinkError(Exception):
    """An engine cannot be reached, or refuses the gateway."""


class UnlikeEngine(LinkError):
    """An engine differs from those that the gateway uses. It stays so until it is started again."""


@dataclass(eq=False, slots=True)
class _Session:
    """A session at this engine.

    Attributes:
        sent, received: messages about it, each way.
        jobs: those without their last result, by id.
    """

    fence: int
    opening: int
    source: AudioSource
    resident: Listener
    audio: SentAudio
    sent: int = 0
    received: int = 0
    jobs: dict[int, tuple[Job, Report]] = field(default_factory=dict)


class EngineLink:
    """One engine, over one connection. It implements `af3stream.server.session_runner.Jobs`.

    Its methods are called on the event loop on which it was connected, and it calls reports there. Once it is lost, it
    reports nothing, and its methods do nothing.

    Attributes:
        facts: of the engine.
        load: what the engine last reported.
    """

    def __init__(self, socket: ClientConnection, welcome: Welcome, config: EngineConfig) -> None:
        self.facts: EngineFacts = welcome.facts
        self.load: EngineLoad = welcome.load
        self._window = welcome.audio_window
        self._channel = Channel(socket, from_engine, welcome.credit, config)
        self._socket = socket
        self._sessions: dict[str, _Session] = {}
        self._openings = count()
        self._lost = False
        self._on_lost: Callable[[], None] = _nothing
        self._on_superseded: Callable[[str], None] = _nothing
        self._reading = asyncio.Semaphore(READS)
        self._reads: set[asyncio.Task[None]] = set()
        self._running = asyncio.create_task(self._run())

    @classmethod
    async def connect(cls, address: str, key: str, gateway: str, config: EngineConfig) -> EngineLink:
        """Connect to an engine.

        Args:
            address: host:port.
            key: the engine's.
            gateway: the name of this gateway. The engine drops an earlier connection of the same name.

        Raises:
            LinkError: if there is no engine at the address, it does not answer in time, or it refuses the key.
        """
        try:
            socket = await connect(
                f"ws://{address}",
                subprotocols=[SUBPROTOCOL],
                additional_headers={"Authorization": f"Bearer {key}"},
                compression=None,
                proxy=None,
                max_size=MAX_FRAME_BYTES,
                max_queue=2,
                open_timeout=config.lost_after_s,
                **keepalive(config),
                logger=wire_log,
            )
            with _closed_on_error(socket):
                async with asyncio.timeout(config.lost_after_s):
                    await socket.send(frame([encode(Hello(gateway, config.credit_mb * MIB))]))
                    (welcome,) = from_engine.decode(await socket.recv())
                if not isinstance(welcome, Welcome):
                    raise BadFrame("it does not welcome a gateway")
                await asyncio.to_thread(welcome.facts.tokens.load)
        except (OSError, TimeoutError, ValueError, WebSocketException) as error:
            raise LinkError(f"the engine at {address} cannot be reached: {error}") from error
        return cls(socket, welcome, config)

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Have a function called once if the connection is lost; at once if it is lost already."""
        self._on_lost = callback
        if self._lost:
            callback()

    def on_superseded(self, callback: Callable[[str], None]) -> None:
        """Have a function called with each session that another gateway has taken over."""
        self._on_superseded = callback

    @property
    def fullness(self) -> float:
        """How full the queue of what waits to be sent is: 0 is empty; at 1, the connection is closed."""
        return self._channel.fullness

    def on_emptied(self, callback: Callable[[], None]) -> None:
        """Have a function called each time all that waited is sent."""
        self._channel.on_emptied = callback

    async def disconnect(self) -> None:
        """Close the connection; `on_lost` is not called."""
        self._on_lost = _nothing
        await self._channel.flush()
        await self._socket.close()
        await self._running

    # ---- jobs --------------------------------------------------------------------------------------------------------

    def open(self, session: str, source: AudioSource, resident: Listener, fence: int = 0) -> None:
        """Begin a session at this engine, or take it over from a gateway with a lower fence.

        Args:
            source: gives its audio again; called from other threads.
            resident: called when other windows of it have embeddings than before.
            fence: of this gateway's lease.
        """
        if self._lost:
            return
        self._sessions[session] = _Session(fence, next(self._openings), source, resident, SentAudio(self._window))
        self._put(session, lambda number: Open(*number, source.rereads))

    def submit(self, session: str, job: Job, report: Report) -> None:
        """Queue a job; ``report`` is called with its results in order, the last time with ``done``."""
        if (own := self._sessions.get(session)) is None:
            return
        own.jobs[job.id] = job, report
        pieces = samples_of(job)
        bare = with_samples(job, [NO_SAMPLES for _ in pieces])
        ranges = tuple((start, start + len(samples)) for start, samples in pieces)
        chunks = own.audio.chunks(pieces)
        self._put(session, lambda number: Submit(*number, bare, ranges, chunks), urgent=is_urgent(job))

    def cancel(self, session: str, job: int) -> None:
        """Drop the job with this id; nothing is reported of it any more."""
        own = self._sessions.get(session)
        if own and own.jobs.pop(job, None):
            self._put(session, lambda number: Cancel(*number, job), urgent=True)

    def attach(self, session: str) -> None:
        """Do a session's jobs in their turn."""
        self._put(session, lambda number: Attach(*number))

    def detach(self, session: str) -> None:
        """Do a session's jobs only when no other session has any."""
        self._put(session, lambda number: Detach(*number))

    def close(self, session: str) -> None:
        """Drop a session's jobs and caches."""
        self._put(session, lambda number: Close(*number), urgent=True)
        self._sessions.pop(session, None)

    def _put(self, session: str, message: Callable[[Number], FromGateway], *, urgent: bool = False) -> None:
        if own := self._sessions.get(session):
            self._channel.put(message((session, own.fence, own.opening, own.sent)), urgent=urgent)
            own.sent += 1

    # ---- from the engine ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            why = await self._channel.run(self._receive)
            log.info("a link is closed: why=%s", why)
        except Exception:
            log.exception("internal error: the link is given up")
            self._channel.abort()
        self._lost = True
        self._sessions.clear()
        for reading in self._reads:
            reading.cancel()
        self._on_lost()

    def _receive(self, message: FromEngine) -> None:
        """Take a message.

        Raises:
            ValueError: if it breaks the protocol.
        """
        match message:
            case EngineLoad():
                self.load = message
            case Superseded(session=session, fence=fence):
                self._supersede(session, fence)
            case SessionMessage():
                own = self._sessions.get(message.session)
                if own and own.opening == message.opening:  # else it was closed, while this was on its way
                    checked(message.sequence == own.received, f"message {own.received} of a session is missing")
                    own.received += 1
                    self._take(own, message)
            case _:
                raise BadFrame("not in this place")

    def _take(self, own: _Session, message: SessionMessage) -> None:
        match message:
            case Reported(job=number, result=result, done=done):
                if known := own.jobs.get(number):
                    job, report = known
                    if done:
                        del own.jobs[number]
                    report(job, result, done)
            case Resident(segments=segments):
                own.resident(frozenset(segments))
            case Read(segment=segment):
                reading = asyncio.create_task(self._read(own, message.session, segment))
                self._reads.add(reading)
                reading.add_done_callback(self._reads.discard)

    def _supersede(self, session: str, fence: int) -> None:
        own = self._sessions.get(session)
        if own and own.fence == fence:
            del self._sessions[session]
            self._on_superseded(session)

    async def _read(self, own: _Session, session: str, segment: AudioSegment) -> None:
        """Read older audio of a session, beside the event loop, and send it."""
        try:
            async with self._reading:
                await self._channel.flush()  # so that no more than these reads wait to be sent
                chunk = await asyncio.to_thread(_read, own.source, segment)
        except Exception as error:  # noqa: BLE001 - whatever fails costs the job that reads
            log.warning("audio cannot be read: session=%s error=%s", session, type(error).__name__)
            chunk = None
        if self._sessions.get(session) is own:
            self._put(session, lambda number: Samples(*number, segment, chunk), urgent=True)


@contextmanager
def _closed_on_error(socket: ClientConnection) -> Iterator[None]:
    """Close a connection at once if the context fails, or is cancelled."""
    try:
        yield
    except BaseException:
        socket.transport.abort()
        raise


def _read(source: AudioSource, segment: AudioSegment) -> Chunk:
    return packed(segment.start, source.read(segment))


def _nothing(*_: object) -> None:
    """Do nothing."""
