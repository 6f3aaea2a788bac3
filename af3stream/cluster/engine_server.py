"""The engine's end of its links: takes the jobs of several gateways' sessions for one worker."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, NegotiationError
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from af3stream.cluster.audio_window import ReceivedAudio
from af3stream.cluster.channel import MIB, Channel, checked, keepalive, wire_log
from af3stream.cluster.remote_audio import RemoteAudio
from af3stream.cluster.wire import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    Attach,
    BadFrame,
    Cancel,
    Close,
    Detach,
    EngineLoad,
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
    from_gateway,
    is_urgent,
)
from af3stream.config import EngineConfig, ModelConfig
from af3stream.engine.captioning import Samples as Float32
from af3stream.engine.contract import AudioSegment
from af3stream.engine.facts import EngineFacts
from af3stream.engine.jobs import Job, Result, samples_of, with_samples
from af3stream.engine.worker import Worker

log = logging.getLogger(__name__)

LOAD_EVERY_S: Final = 0.25
HELLO_S: Final = 10.0  # how long a gateway may take to say who it is
WINDOWS_KEPT: Final = 2  # of a session's audio, in longest windows: an utterance is in the window that closes after it


class EngineServer:
    """Serves one worker to gateways, over WebSockets.

    Several gateways may connect at once. The caller starts and stops the worker.

    Attributes:
        port: the port, once it listens.

    Args:
        key: what a gateway must know to connect.
        limits: of the worker.
    """

    def __init__(
        self, worker: Worker, facts: EngineFacts, key: str, config: EngineConfig, limits: ModelConfig | None = None
    ) -> None:
        self.port = 0
        self._worker = worker
        self._facts = facts
        self._key = key
        self._config = config
        self._kv_limit = int((limits or ModelConfig()).kv_budget_mb * MIB)
        self._gateways: dict[str, _Gateway] = {}
        self._sessions: dict[str, _Hosted] = {}
        self._draining = False

    @asynccontextmanager
    async def listening(self, host: str, port: int = 0) -> AsyncIterator[EngineServer]:
        """Serve within the context.

        Raises:
            OSError: if it cannot listen there.
        """
        async with serve(
            self._handle,
            host,
            port,
            process_request=self._authenticate,
            select_subprotocol=_select_subprotocol,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            max_queue=2,
            **keepalive(self._config),
            server_header=None,
            logger=wire_log,
        ) as server:
            self.port = _port(server)
            telling = asyncio.create_task(self._tell_load())
            try:
                yield self
            finally:
                telling.cancel()
                for hosted in self._sessions.values():
                    hosted.forget()

    @property
    def load(self) -> EngineLoad:
        """How much the engine has to do."""
        worker, short_since = self._worker, self._worker.short_since
        return EngineLoad(
            sessions=worker.sessions,
            kv_bytes=worker.kv_bytes,
            kv_limit_bytes=self._kv_limit,
            embedding_bytes=worker.embedding_bytes,
            busy_s=worker.busy_s,
            due_s=worker.due_s,
            short_s=0.0 if short_since is None else time.monotonic() - short_since,
            draining=self._draining,
        )

    def drain(self) -> None:
        """Tell the gateways to place their sessions elsewhere."""
        self._draining = True
        for gateway in self._gateways.values():
            gateway.channel.put(self.load, urgent=True)

    async def _tell_load(self) -> None:
        while True:
            await asyncio.sleep(LOAD_EVERY_S)
            for gateway in self._gateways.values():
                gateway.channel.put(self.load)

    # ---- gateways ----------------------------------------------------------------------------------------------------

    def _authenticate(self, connection: ServerConnection, request: Request) -> Response | None:
        given = request.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {self._key}".encode()):
            return None
        return connection.respond(HTTPStatus.UNAUTHORIZED, "the key is wrong\n")

    async def _handle(self, socket: ServerConnection) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                hello = from_gateway.decode(await socket.recv())
            match hello:
                case [Hello() as said]:
                    await self._serve(socket, said)
                case _:
                    raise BadFrame("a gateway says hello first")
        except ConnectionClosed:
            log.info("a connection was closed before it said hello")
        except (BadFrame, TimeoutError) as error:
            log.warning("a connection is refused: %s", error)
            await socket.close(CloseCode.PROTOCOL_ERROR)

    async def _serve(self, socket: ServerConnection, hello: Hello) -> None:
        if earlier := self._gateways.pop(hello.gateway, None):
            earlier.channel.abort()
            earlier.leave()
        window = WINDOWS_KEPT * self._facts.capacity.window_samples
        welcome = Welcome(self._facts, self.load, window, self._config.credit_mb * MIB)
        await socket.send(frame([encode(welcome)]))
        channel = Channel(socket, from_gateway, hello.credit, self._config)
        gateway = self._gateways[hello.gateway] = _Gateway(channel, self._worker, self._sessions, self._config, window)
        log.info("a gateway is connected: gateway=%s", hello.gateway)
        try:
            why = await channel.run(gateway.receive)
            log.info("a gateway is disconnected: gateway=%s why=%s", hello.gateway, why)
        finally:
            if self._gateways.get(hello.gateway) is gateway:
                del self._gateways[hello.gateway]
            gateway.leave()


class _Gateway:
    """The sessions of one connection.

    Args:
        sessions: of all connections.
        window: samples of a session's newest audio that are kept.
    """

    def __init__(
        self,
        channel: Channel[FromGateway],
        worker: Worker,
        sessions: dict[str, _Hosted],
        config: EngineConfig,
        window: int,
    ) -> None:
        self.channel = channel
        self._worker = worker
        self._sessions = sessions
        self._config = config
        self._window = window

    def receive(self, message: FromGateway) -> None:
        """Do what a gateway asks for.

        Raises:
            ValueError: if it breaks the protocol.
        """
        checked(isinstance(message, SessionMessage), "not in this place")
        assert isinstance(message, SessionMessage)
        hosted = self._sessions.get(message.session)
        if isinstance(message, Open):
            self._open(message, hosted)
        elif hosted is None or hosted.gateway is not self or hosted.opening != message.opening:
            self.channel.put(Superseded(message.session, message.fence), urgent=True)
        else:
            hosted.receive(message)

    def leave(self) -> None:
        """The connection is closed: keep the caches of its sessions for a while."""
        for hosted in self._sessions.values():
            if hosted.gateway is self:
                hosted.leave(self._config.keep_s, partial(self._drop, hosted))

    def _open(self, message: Open, hosted: _Hosted | None) -> None:
        if hosted is not None:
            owner = hosted.gateway
            if hosted.fence > message.fence or (hosted.fence == message.fence and owner not in (None, self)):
                self.channel.put(Superseded(message.session, message.fence), urgent=True)
                return
            hosted.leave(None, lambda: None)
            if owner not in (None, self):
                owner.channel.put(Superseded(message.session, hosted.fence), urgent=True)
        self._sessions[message.session] = _Hosted(message, self, self._worker, self._window, self._config, self._drop)

    def _drop(self, hosted: _Hosted) -> None:
        """Drop a session and its caches."""
        hosted.forget()
        if self._sessions.get(hosted.session) is hosted:
            del self._sessions[hosted.session]
            self._worker.close(hosted.session)


class _Hosted:
    """A session at this engine, as one gateway has it under one fence.

    Attributes:
        gateway: ``None`` once its connection is closed.
    """

    def __init__(
        self,
        opened: Open,
        gateway: _Gateway,
        worker: Worker,
        window: int,
        config: EngineConfig,
        drop: Callable[[_Hosted], None],
    ) -> None:
        checked(opened.sequence == 0, "a session begins with its first message")
        self.session = opened.session
        self.fence = opened.fence
        self.opening = opened.opening
        self.gateway: _Gateway | None = gateway
        self._worker = worker
        self._config = config
        self._drop = drop
        self._loop = asyncio.get_running_loop()
        self._audio = ReceivedAudio(window)
        self._received = 1
        self._sent = 0
        self._jobs: dict[int, Job] = {}
        self._leaving: asyncio.TimerHandle | None = None
        self._reads: dict[AudioSegment, asyncio.TimerHandle] = {}  # ends the wait for a segment
        self._source = RemoteAudio(self._ask, config.read_timeout_s, rereads=opened.rereads)
        worker.open(self.session, self._source, self._tell_resident)
        worker.attach(self.session)

    # ---- from the gateway --------------------------------------------------------------------------------------------

    def receive(self, message: SessionMessage) -> None:
        """Do what the gateway asks for.

        Raises:
            ValueError: if it breaks the protocol.
        """
        checked(message.sequence == self._received, f"message {self._received} of a session is missing")
        self._received += 1
        match message:
            case Submit():
                self._submit(message)
            case Cancel(job=job):
                self._jobs.pop(job, None)
                self._worker.cancel(self.session, job)
            case Attach():
                self._worker.attach(self.session)
            case Detach():
                self._worker.detach(self.session)
            case Samples(segment=segment, audio=audio):
                self._arrive(segment, None if audio is None else audio.samples)
            case Close():
                self._drop(self)

    def leave(self, keep_s: float | None, expired: Callable[[], None]) -> None:
        """Stop working for this gateway.

        Args:
            keep_s: how long another one may take the session over; ``None``: one does so now.
            expired: called after this time.
        """
        self.forget()
        for job in self._jobs:
            self._worker.cancel(self.session, job)
        self._jobs.clear()
        if keep_s is not None:
            self._leaving = self._loop.call_later(keep_s, expired)

    def forget(self) -> None:
        """Tell nothing any more."""
        self.gateway = None
        if self._leaving:
            self._leaving.cancel()

    def _submit(self, message: Submit) -> None:
        found = self._audio.take(message.audio, message.ranges)
        checked(len(found) == len(samples_of(message.job)), "each range has its samples")
        job = with_samples(message.job, found)
        self._jobs[job.id] = job
        self._worker.submit(self.session, job, self._report)

    # ---- from the worker's threads -----------------------------------------------------------------------------------

    def _report(self, job: Job, result: Result, done: bool) -> None:
        self._hand_over(partial(self._tell, job, result, done))

    def _tell_resident(self, segments: frozenset[AudioSegment]) -> None:
        self._source.forget(segments)
        self._hand_over(lambda: self._put(lambda number: Resident(*number, tuple(segments))))

    def _ask(self, segment: AudioSegment) -> None:
        self._hand_over(partial(self._request, segment))

    def _hand_over(self, act: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:  # the event loop is closed: the engine has stopped
            log.debug("a report arrived after the engine stopped")

    # ---- to the gateway ----------------------------------------------------------------------------------------------

    def _tell(self, job: Job, result: Result, done: bool) -> None:
        if job.id not in self._jobs:
            return
        if done:
            del self._jobs[job.id]
        self._put(lambda number: Reported(*number, job.id, result, done), urgent=is_urgent(job))

    def _request(self, segment: AudioSegment) -> None:
        if self.gateway is None:
            self._arrive(segment, None)
            return
        if earlier := self._reads.pop(segment, None):
            earlier.cancel()
        self._reads[segment] = self._loop.call_later(self._config.read_timeout_s, self._arrive, segment, None)
        self._put(lambda number: Read(*number, segment), urgent=True)

    def _arrive(self, segment: AudioSegment, samples: Float32 | None) -> None:
        if waiting := self._reads.pop(segment, None):
            waiting.cancel()
        self._source.arrive(segment, samples)
        self._worker.wake()

    def _put(self, message: Callable[[Number], Reported | Resident | Read], *, urgent: bool = False) -> None:
        if self.gateway:
            self.gateway.channel.put(message((self.session, self.fence, self.opening, self._sent)), urgent=urgent)
            self._sent += 1


def _port(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


def _select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol:
    if SUBPROTOCOL in offered:
        return SUBPROTOCOL
    raise NegotiationError(f"this engine speaks {SUBPROTOCOL}")
