"""Admission and counting of connections and requests with audio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request as HttpRequest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from af3stream.config import ServerConfig
from af3stream.metrics import Metrics
from af3stream.server.admission import Principal, Refused, admit, authenticate
from af3stream.server.http import STREAM_PATH

log = logging.getLogger(__name__)


class AdmittedClients:
    """The connections and requests with audio that are admitted and not done.

    Args:
        no_room: returns why another session of a user does not fit, or ``None``.
    """

    def __init__(self, config: ServerConfig, metrics: Metrics, no_room: Callable[[str], str | None]) -> None:
        self._config = config
        self._metrics = metrics
        self._no_room = no_room
        self._inside: dict[object, Principal] = {}  # by connection or request

    def __len__(self) -> int:
        return len(self._inside)

    def user(self, connection: ServerConnection) -> str:
        """Return the user of a connection."""
        return self._inside[connection].user

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Admit a handshake and count its connection until it closes, or return the refusal."""
        try:
            self._inside[connection] = self._admit(request, connection.remote_address)
        except Refused as refused:
            response = connection.respond(refused.status, f"{refused}\n")
            if refused.retry_after_s:
                response.headers["Retry-After"] = str(refused.retry_after_s)
            return response
        gone = asyncio.ensure_future(connection.wait_closed())
        gone.add_done_callback(lambda _: self._inside.pop(connection))
        return None

    def would_admit(self, request: HttpRequest) -> None:
        """Refuse a plain request of a stream as its handshake would be refused.

        Raises:
            Refused: with the reason.
        """
        self._admit(_handshake(request), request.client)

    @contextmanager
    def entered(self, request: HttpRequest) -> Iterator[None]:
        """Count a request with audio as a session while it is answered.

        Raises:
            Refused: if it is not admitted.
        """
        self._inside[request] = self._admit(_handshake(request), request.client)
        try:
            yield
        finally:
            del self._inside[request]

    def authenticate(self, request: HttpRequest) -> None:
        """Check a request's token.

        Raises:
            Refused: without a valid one.
        """
        authenticate(_handshake(request), self._config)

    def _admit(self, request: Request, address: tuple[str, int] | None) -> Principal:
        """Admit or refuse a client. The address of a peer that has already left is unknown."""
        host = (address or ("",))[0]
        try:
            return admit(request, host, self._config, self._inside.values(), self._no_room)
        except Refused as refused:
            self._metrics.refusals.labels(str(refused.status.value)).inc()
            log.info("not admitted: status=%d reason=%r", refused.status.value, str(refused))
            raise


def _handshake(request: HttpRequest) -> Request:
    """Return a plain request as a handshake with the same headers and query."""
    path = f"{STREAM_PATH}?{request.scope['query_string'].decode('ascii')}"
    return Request(path, Headers(request.headers.items()))
