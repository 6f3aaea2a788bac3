"""The engine's end of its links: takes the jobs of several gateways' sessions for one worker."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, NegotiationError
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from af3stream.cluster.channel import MIB, Channel, keepalive, wire_log
from af3stream.cluster.engine_session import EngineSession, GatewaySessions
from af3stream.cluster.wire import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    BadFrame,
    EngineLoad,
    Hello,
    Welcome,
    encode,
    frame,
    from_gateway,
)
from af3stream.config import EngineConfig
from af3stream.engine.facts import EngineFacts
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
    """

    def __init__(self, worker: Worker, facts: EngineFacts, key: str, config: EngineConfig) -> None:
        self.port = 0
        self._worker = worker
        self._facts = facts
        self._key = key
        self._config = config
        self._gateways: dict[str, GatewaySessions] = {}
        self._sessions: dict[str, EngineSession] = {}
        self._draining = False

    @asynccontextmanager
    async def listening(self, host: str) -> AsyncIterator[EngineServer]:
        """Serve within the context, at any free port.

        Raises:
            OSError: if it cannot listen there.
        """
        async with serve(
            self._handle,
            host,
            0,
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
        worker = self._worker
        return EngineLoad(
            sessions=worker.sessions,
            kv_bytes=worker.kv_bytes,
            kv_sessions=worker.kv_sessions,
            kv_limit_bytes=worker.kv_limit_bytes,
            embedding_bytes=worker.embedding_bytes,
            busy_s=worker.busy_s,
            due_s=worker.due_s,
            short_s=worker.short_s,
            draining=self._draining,
        )

    def drain(self) -> None:
        """Tell the gateways to place their sessions elsewhere."""
        self._draining = True
        self._put_load(urgent=True)

    def resume(self) -> None:
        """Take sessions again after `drain`."""
        self._draining = False
        self._put_load(urgent=True)

    async def _tell_load(self) -> None:
        while True:
            await asyncio.sleep(LOAD_EVERY_S)
            try:
                self._put_load()
            except Exception:
                log.exception("internal error: gateways are not told the load")

    def _put_load(self, *, urgent: bool = False) -> None:
        for gateway in self._gateways.values():
            gateway.channel.put(self.load, urgent=urgent)

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
        channel = Channel(socket, from_gateway, hello.credit, self._config)
        gateway = GatewaySessions(channel, self._worker, self._sessions, self._config, window)
        self._gateways[hello.gateway] = gateway
        try:
            welcome = Welcome(self._facts, self.load, window, self._config.credit_mb * MIB)
            await socket.send(frame([encode(welcome)]))
            log.info("a gateway is connected: gateway=%s", hello.gateway)
            why = await channel.run(gateway.receive)
            log.info("a gateway is disconnected: gateway=%s why=%s", hello.gateway, why)
        finally:
            if self._gateways.get(hello.gateway) is gateway:
                del self._gateways[hello.gateway]
            gateway.leave()


def _port(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


def _select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol:
    if SUBPROTOCOL in offered:
        return SUBPROTOCOL
    raise NegotiationError(f"this engine speaks {SUBPROTOCOL}")
