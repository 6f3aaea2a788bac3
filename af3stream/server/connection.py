"""One peer: bytes in, messages to the session, its jobs to the engine, its messages to the peer."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from af3stream.config import Config
from af3stream.engine.factory import Loaded
from af3stream.engine.jobs import Job, Result
from af3stream.engine.worker import Worker
from af3stream.errors import IdleTimeout, NoSession, Refusal, ShuttingDown
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.protocol.codec import server_codec
from af3stream.server.outbox import DropInterimsOutbox
from af3stream.session.session import Session, State

log = logging.getLogger(__name__)

NORMAL_CLOSE = 1000
GOODBYE_S = 10.0  # how long a peer that has to go may take to read why


class Connection:
    """Lives as long as one WebSocket. All of it runs on the event loop; the engine's reports are handed over to it."""

    def __init__(
        self, socket: ServerConnection, *, config: Config, loaded: Loaded, worker: Worker, metrics: Metrics
    ) -> None:
        self._socket = socket
        self._config = config
        self._loaded = loaded
        self._worker = worker
        self._metrics = metrics
        self._codec = server_codec(socket.subprotocol or "")
        self._outbox = DropInterimsOutbox(config.server.outgoing_messages)
        self._loop = asyncio.get_running_loop()
        self._strikes: Counter[str] = Counter()
        self._close_code = NORMAL_CLOSE
        self._timer: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None
        self.session: Session | None = None

    async def run(self) -> None:
        """Serve the peer until it leaves, ends its session, or has to go."""
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        except ConnectionClosed:
            pass
        except Refusal as refusal:
            self._end_with(refusal)
        finally:
            self._outbox.close()
            self._hurry()
            await self._read_past()
            await writer
            self._close_session()

    def drain(self) -> None:
        """The server is going away: finish what is pending, then say goodbye."""
        if self.session is not None and self.session.state is not State.ENDED:
            self._close_code = ShuttingDown.close_code or NORMAL_CLOSE
            self.session.drain(time.monotonic())
            self._pump()
        else:
            self.leave()

    def leave(self) -> None:
        """Say goodbye now."""
        self._end_with(ShuttingDown("the server is going away"))

    async def _read(self) -> None:
        """Frames to messages to the session, until the session ends or the peer must go."""
        timeout = self._config.server.open_timeout_s
        while True:
            try:
                frame = await asyncio.wait_for(self._socket.recv(), timeout)
            except TimeoutError:
                raise IdleTimeout(f"nothing arrived for {timeout:g} s") from None
            timeout = self._config.server.idle_timeout_s
            try:
                self._take(self._codec.decode(frame))
            except Refusal as refusal:
                if self._fatal(refusal):
                    raise
                self._metrics.refusals.labels(refusal.code).inc()
                self._outbox.put([m.error(refusal)])

    async def _read_past(self) -> None:
        """Throw away what still arrives, up to the peer's own goodbye."""
        with suppress(ConnectionClosed):
            while True:
                await self._socket.recv()

    def _take(self, message: m.ClientMessage) -> None:
        now = time.monotonic()
        if self.session is not None:
            self.session.receive(message, now)
        elif isinstance(message, m.Start):
            self.session = Session(
                secrets.token_urlsafe(12),
                message,
                config=self._config,
                engine=self._loaded.engine,
                notes=self._loaded.notes,
                metrics=self._metrics,
            )
            log.info("session opened: session=%s rate=%d channels=%d", self.session.id, message.rate, message.channels)
        else:
            raise NoSession("the first message must be start")
        self._pump()

    def _pump(self) -> None:
        """Carry what the session wants to the engine and to the peer, and set the clock for it."""
        session = self.session
        if session is None:
            return
        for job in session.take_cancelled():
            self._worker.cancel(job)
        for job in session.take_jobs():
            self._worker.submit(session.id, job, self._report)
        try:
            self._outbox.put(session.take_messages())
        except Refusal as refusal:
            self._end_with(refusal)
            return
        if session.state is State.ENDED:
            self._outbox.close()
        self._set_timer(session)

    def _report(self, job: Job, result: Result, done: bool) -> None:
        """Called on the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._completed, job, result, done)
        except RuntimeError:  # the loop is closed: the server is gone, and the result with it
            log.debug("a result came after the server's end")

    def _completed(self, job: Job, result: Result, done: bool) -> None:
        if self.session is not None:
            self.session.complete(job, result, done, time.monotonic())
            self._pump()

    def _set_timer(self, session: Session) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        deadline = session.next_deadline
        if deadline is not None and session.state is not State.ENDED:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._wake, session)

    def _wake(self, session: Session) -> None:
        session.advance(time.monotonic())
        self._pump()

    def _fatal(self, refusal: Refusal) -> bool:
        self._strikes[refusal.code] += 1
        ends = refusal.close_code is not None and self._strikes[refusal.code] >= refusal.strikes
        return ends and not (isinstance(refusal, NoSession) and self.session is not None)

    def _end_with(self, refusal: Refusal) -> None:
        """Tell the peer why, and close."""
        self._metrics.refusals.labels(refusal.code).inc()
        self._close_code = refusal.close_code or NORMAL_CLOSE
        self._outbox.end_with(m.error(refusal, fatal=True))
        self._hurry()

    def _hurry(self) -> None:
        """Give up the socket where the peer does not read what is left soon."""
        if self._goodbye is None:
            self._goodbye = self._loop.call_later(GOODBYE_S, self._socket.transport.abort)

    def _close_session(self) -> None:
        """Let go of the session; what the engine still reports of it comes to nothing."""
        for timer in (self._timer, self._goodbye):
            if timer:
                timer.cancel()
        session, self.session = self.session, None
        if session:
            self._worker.close(session.id)
            log.info("session closed: session=%s code=%s", session.id, self._socket.close_code)

    async def _write(self) -> None:
        """Messages to frames to the peer; closes the socket after the last."""
        try:
            while (message := await self._outbox.get()) is not None:
                await self._socket.send(self._codec.encode(message))
            await self._socket.close(self._close_code)
        except ConnectionClosed:
            pass
