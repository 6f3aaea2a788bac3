"""Serve HTTP/1.1 on every accepted connection, up to a request that asks for a WebSocket.

uvicorn's protocol class parses and answers requests. At the first `Upgrade: websocket`, websockets takes over the
connection, and this module no longer handles its bytes.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import h11
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config as UvicornConfig
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState
from websockets.asyncio.server import ServerConnection

from af3stream.config import ServerConfig
from af3stream.metrics import Metrics
from af3stream.server.admission import RETRY_AFTER_S
from af3stream.server.handshakes import EarlyBytes, HandshakeLimiter, secure
from af3stream.server.http import SOCKET_PATHS
from af3stream.server.http_answers import refuse

# At a lower level, uvicorn logs input of hostile peers, and errors that the application logs itself.
logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

NO_BODY: Final = ((b"content-length", b"0"),)
ALLOW: Final = "af3stream.allow"  # in a request's scope: a function that gives the answer so many seconds from now
NO_ROUTE: Final = "none"
BODY_HEADERS: Final = (b"content-length", b"transfer-encoding")


class UpgradedConnection(ServerConnection):
    """The connection class of websockets. It starts at the upgrade request, not when the socket is accepted."""

    def upgrade(self, transport: asyncio.Transport, received: bytes) -> None:
        """Take over a connection, with the request and the bytes that followed it."""
        transport.set_protocol(self)
        super().connection_made(transport)
        self.data_received(received)


class HttpServer:
    """The shared state of all HTTP connections.

    Args:
        app: answers the requests.
        context: of TLS, which starts here so that unfinished handshakes are counted; ``None``: no TLS.

    Attributes:
        handshakes: the connections without a complete request.
        uvicorn: the settings of its protocol class.
        state: all connections, and all requests that are being answered.
    """

    def __init__(self, config: ServerConfig, app: ASGIApp, context: ssl.SSLContext | None, metrics: Metrics) -> None:
        self.config = config
        self.app = app
        self.handshakes = HandshakeLimiter(config.max_handshakes)
        self.state = ServerState()
        self.uvicorn = UvicornConfig(
            app,
            ws=UpgradedConnection,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=config.keep_alive_s,
            h11_max_incomplete_event_size=config.max_head_bytes,
        )
        self._context = context
        self._metrics = metrics
        self._admitted: set[HttpConnection] = set()
        self._securing: set[asyncio.Task[None]] = set()
        self._closing = False
        self._empty = asyncio.Event()

    def connections(self) -> type[ServerConnection]:
        """Return the class that `websockets.serve` creates for an accepted connection."""
        server = self

        class AcceptedConnection(UpgradedConnection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                """Start with HTTP."""
                assert isinstance(transport, asyncio.Transport)
                server._accept(self, transport)

        return AcceptedConnection

    def admit(self, connection: HttpConnection, scope: Scope) -> Response | None:
        """Count a connection whose request is complete; return the response if the request is refused."""
        self.handshakes.leave(connection)
        if connection not in self._admitted and len(self._admitted) >= self.config.max_http_connections:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many HTTP connections", RETRY_AFTER_S)
        self._admitted.add(connection)
        if _head_bytes(scope) > self.config.max_head_bytes:
            limit = f"at most {self.config.max_head_bytes} bytes of headers"
            return self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, limit)
        return None

    def timed_out(self) -> Response:
        """Return the response to a request that takes too long."""
        return self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"not complete within {self.config.request_timeout_s:g} s")

    def leave(self, connection: HttpConnection) -> None:
        """Stop counting a connection: it is closed, or a WebSocket."""
        self.handshakes.leave(connection)
        self._admitted.discard(connection)
        self.state.connections.discard(connection)
        if not self.state.connections:
            self._empty.set()

    async def close(self, within_s: float) -> None:
        """Close idle connections, wait for requests that are being answered, and then abort the rest."""
        self._closing = True
        self.handshakes.close()
        self._empty.clear()
        for connection in list(self.state.connections):
            if not connection.transport.is_closing():
                connection.shutdown()
        if self.state.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), within_s)
        for left in list(self.state.connections):
            left.transport.abort()

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a response, by the pattern of its route, so many seconds after its request."""
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        self._metrics.responses.labels(route, str(status)).inc()
        self._metrics.response.labels(route).observe(seconds)

    def _refuse(self, status: HTTPStatus, reason: str, retry_after_s: int | None = None) -> Response:
        self._metrics.refusals.labels(str(status.value)).inc()
        return refuse(status, reason, retry_after_s)

    def _accept(self, websocket: UpgradedConnection, transport: asyncio.Transport) -> None:
        """Start HTTP, after a TLS handshake if there is TLS."""
        if self._closing:
            transport.set_protocol(EarlyBytes())
            transport.abort()
            return
        connection = HttpConnection(self, websocket, transport)
        if self._context is None:
            connection.begin(transport)
        else:
            transport.pause_reading()  # no byte may reach HTTP before TLS has started
            transport.set_protocol(EarlyBytes())
            securing = asyncio.create_task(self._secure(connection, transport, self._context))
            self._securing.add(securing)
            securing.add_done_callback(self._securing.discard)
        self.handshakes.enter(connection)

    async def _secure(self, connection: HttpConnection, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        """Run the TLS handshake, or close the connection."""
        if secured := await secure(transport, context, self.config.open_timeout_s):
            connection.begin(*secured)
        else:
            connection.give_up()


class HttpConnection(H11Protocol):
    """One connection: its requests and responses, each with a deadline.

    The deadline is `open_timeout_s` for the head of the first request, TLS included; `request_timeout_s` up to the
    start of a response, and for each piece of it; `keep_alive_s` plus `open_timeout_s` for the rest of an unread body
    and the head of the next request.
    """

    def __init__(self, server: HttpServer, websocket: UpgradedConnection, accepted: asyncio.Transport) -> None:
        super().__init__(server.uvicorn, server.state, {})
        self.app = self._answer
        self._server = server
        self._websocket = websocket
        self._accepted = accepted
        self._unread_bytes = 0
        self._deadline = self.loop.call_later(server.config.open_timeout_s, self.abort)

    def begin(self, transport: asyncio.Transport, received: bytes = b"") -> None:
        """Start to read requests."""
        transport.set_protocol(self)
        self.connection_made(transport)
        if received:
            self.data_received(received)

    def abort(self) -> None:
        """Close the socket at once."""
        self._accepted.abort()

    def give_up(self) -> None:
        """Stop counting a connection that never started."""
        self._deadline.cancel()
        self._server.leave(self)
        self.abort()

    def data_received(self, data: bytes) -> None:
        """Process received bytes, but only a limited number of an unread body."""
        if self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete:
            self._unread_bytes += len(data)
            if self._unread_bytes > self._server.config.max_body_bytes:
                self.abort()
                return
        super().data_received(data)

    def _should_upgrade(self) -> bool:
        """Return whether a request is a handshake: a GET of a stream, without a body, that asks for a WebSocket."""
        has_body = any(name in BODY_HEADERS and (name, value) not in NO_BODY for name, value in self.headers)
        is_stream = self.scope["method"] == "GET" and self.scope["path"] in SOCKET_PATHS
        return is_stream and not has_body and super()._should_upgrade()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Pass the connection to websockets, with the request and the bytes that followed it."""
        self._deadline.cancel()
        self._server.leave(self)
        following, _ = self.conn.trailing_data
        first = b"%b %b HTTP/%b" % (event.method, event.target, event.http_version)
        headers = [b"%b: %b" % header for header in event.headers]
        self._websocket.upgrade(self.transport, b"\r\n".join([first, *headers, b"", following]))

    def send_400_response(self, msg: str) -> None:
        """Answer an invalid request; abort if another response has started."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.abort()
            return
        super().send_400_response(msg)
        if self.cycle:  # the body belongs to this request
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Set the deadline for the rest of the response and the next request."""
        self._allow(self._server.config.keep_alive_s + self._server.config.open_timeout_s)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        self._deadline.cancel()
        super().connection_lost(exc)
        self._server.leave(self)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request within its deadline."""
        self._deadline.cancel()
        self._unread_bytes = 0
        patience_s = self._server.config.request_timeout_s
        asked_at = self.loop.time()
        began = False

        async def send_in_time(message: Message) -> None:
            nonlocal began
            if not began:
                self._server.answered(scope, message["status"], self.loop.time() - asked_at)
            began = True
            limit.reschedule(self.loop.time() + patience_s)
            await send(message)

        try:
            async with asyncio.timeout(patience_s) as limit:
                scope[ALLOW] = lambda seconds: limit.reschedule(self.loop.time() + seconds)
                answer = self._server.admit(self, scope) or self._server.app
                await answer(scope, receive, send_in_time)
        except Exception:
            self._allow(self._server.config.open_timeout_s)
            if not limit.expired():
                raise
            if began:
                self.abort()
            else:
                self._server.answered(scope, HTTPStatus.REQUEST_TIMEOUT, self.loop.time() - asked_at)
                await self._server.timed_out()(scope, receive, send)

    def _allow(self, seconds: float) -> None:
        """Set the deadline after which the connection is aborted."""
        self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.abort)


def _head_bytes(scope: Scope) -> int:
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["raw_path"]) + len(scope["query_string"])
