"""Exchange messages between one peer and its session."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from af3stream.config import ServerConfig
from af3stream.errors import BadFormat, IdleTimeout, NoSession, Refusal
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.protocol.codec import server_codec
from af3stream.protocol.features import known_to, restrict
from af3stream.server.outbox import DropInterimsOutbox
from af3stream.server.session_manager import SessionManager, going_away
from af3stream.server.session_runner import SessionRunner, superseded
from af3stream.session.lifecycle import State

log = logging.getLogger(__name__)

NORMAL_CLOSE = 1000
FAILURE_CLOSE = 1011
GOODBYE_S = 10.0  # time for a peer to read why it is disconnected


class Connection:
    """Serve one WebSocket. Its session may outlive it.

    Args:
        user: the user that the handshake admitted.
    """

    resumes = True

    def __init__(
        self, socket: ServerConnection, *, config: ServerConfig, hosts: SessionManager, user: str, metrics: Metrics
    ) -> None:
        self._socket = socket
        self._config = config
        self._hosts = hosts
        self._user = user
        self._metrics = metrics
        self._codec = server_codec(socket.subprotocol or "")
        self._outbox = DropInterimsOutbox(config.outgoing_messages)
        self._strikes: Counter[str] = Counter()
        self._close_code = NORMAL_CLOSE
        self._goodbye: asyncio.TimerHandle | None = None
        self._host: SessionRunner | None = None
        self._features: frozenset[str] = frozenset()  # the features that the peer knows
        self._confirmed = False  # whether a message after `ready` has arrived

    async def run(self) -> None:
        """Serve the peer until it leaves, its session ends, or it is disconnected."""
        writer = asyncio.create_task(self._write())
        self._close_code = FAILURE_CLOSE  # the default
        try:
            await self._read()
        except ConnectionClosed:
            pass
        except Refusal as refusal:
            self._end_with(refusal)
        finally:
            self._outbox.close()
            self._abort_later()
            await self._discard_incoming()
            await writer
            self._leave()

    # ---- from the session to the peer --------------------------------------------------------------------------------

    def tell(self, messages: Sequence[m.ServerMessage]) -> None:
        """Queue messages for the client, in order."""
        try:
            self._outbox.put(self._restricted(messages))
        except Refusal as refusal:
            self._end_with(refusal)

    def greet(self, messages: Sequence[m.ServerMessage]) -> None:
        """Queue the first messages of a connection, however many there are."""
        self._outbox.greet(self._restricted(messages))

    def session_over(self, state: State) -> None:
        """Close after the queued messages."""
        if state is State.DRAINED:
            self.go_away()
            return
        self._close_code = NORMAL_CLOSE
        self._outbox.close()

    def supersede(self) -> None:
        """Disconnect the peer: another connection took over the session."""
        self._end_with(superseded())
        self._host = None

    def fail(self) -> None:
        """Disconnect the peer because of an internal error."""
        self._close_code = FAILURE_CLOSE
        self._outbox.close()
        self._abort_later()

    def go_away(self) -> None:
        """Disconnect the peer: the server is shutting down."""
        self._end_with(going_away())

    def _restricted(self, messages: Sequence[m.ServerMessage]) -> list[m.ServerMessage]:
        restricted = (restrict(message, self._features) for message in messages)
        return [message for message in restricted if message is not None]

    @property
    def idle(self) -> bool:
        """Whether the connection has no session."""
        return self._host is None

    @property
    def owing(self) -> bool:
        """Whether the peer waits for an answer, or for the end of its session."""
        return self._host is not None and self._host.session.owing

    # ---- the socket --------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Pass received messages to the session, until the session ends or the peer is disconnected."""
        clock = asyncio.get_running_loop().time
        open_by: float | None = clock() + self._config.open_timeout_s  # a refused frame does not extend it
        while True:
            timeout = self._config.idle_timeout_s if open_by is None else max(0.0, open_by - clock())
            try:
                frame = await asyncio.wait_for(self._socket.recv(), timeout)
            except TimeoutError:
                if open_by is not None:
                    raise IdleTimeout(f"no session was opened within {self._config.open_timeout_s:g} s") from None
                if self.owing:
                    continue  # the peer waits for a reply
                raise IdleTimeout(f"nothing arrived for {timeout:g} s") from None
            try:
                await self._take(self._codec.decode(frame))
            except Refusal as refusal:
                if self._fatal(refusal):
                    raise
                self._metrics.refusals.labels(refusal.code).inc()
                self._outbox.put([m.error(refusal)])
            if self._host:
                open_by = None

    async def _take(self, message: m.ClientMessage) -> None:
        if self._outbox.closed:
            return  # further frames are ignored
        if host := self._host:
            if not self._confirmed:
                self._confirmed = True
                await self._hosts.confirm(host)  # another connection may take over the session meanwhile
            host.receive(message, self, self._user)
        elif isinstance(message, m.Start):
            self._features = known_to(message)
            self._host = await self._hosts.open(message, self._user, self)
        else:
            raise NoSession("the first message must be start")

    async def _discard_incoming(self) -> None:
        """Discard incoming frames until the peer closes the connection."""
        with suppress(ConnectionClosed):
            while True:
                await self._socket.recv()

    async def _write(self) -> None:
        """Send queued messages to the peer, and close the socket after the last one."""
        try:
            while (message := await self._outbox.get()) is not None:
                await self._socket.send(self._codec.encode(message))
            await self._socket.close(self._close_code)
        except ConnectionClosed:
            pass

    def _fatal(self, refusal: Refusal) -> bool:
        self._strikes[refusal.code] += 1
        ends = refusal.close_code is not None and self._strikes[refusal.code] >= refusal.strikes
        return ends and not (isinstance(refusal, NoSession | BadFormat) and self._host is not None)

    def _end_with(self, refusal: Refusal) -> None:
        """Tell the peer the reason, and close."""
        self._metrics.refusals.labels(refusal.code).inc()
        self._close_code = refusal.close_code or NORMAL_CLOSE
        session = self._host.session if self._host else None
        log.info("connection ends: session=%s code=%s", session.id if session else "-", refusal.code)
        durable = session.durable if session else None
        self._outbox.end_with(m.error(refusal, fatal=True, durable=durable))
        self._abort_later()

    def _abort_later(self) -> None:
        """Abort the socket if the peer does not read the remaining messages soon."""
        if self._goodbye is None:
            loop = asyncio.get_running_loop()
            self._goodbye = loop.call_later(GOODBYE_S, self._socket.transport.abort)

    def _leave(self) -> None:
        if self._goodbye:
            self._goodbye.cancel()
        host, self._host = self._host, None
        if host:
            told_all = host.session.over and self._socket.close_code == NORMAL_CLOSE
            self._hosts.leave(host, self, for_good=told_all)
