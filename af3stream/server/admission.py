"""Who may connect, decided at the handshake."""

from __future__ import annotations

import hashlib
import hmac
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request

from af3stream.config import ServerConfig

TOKEN_SUBPROTOCOL: Final = "af3stream.token."  # browsers cannot set headers, and may offer their token so
RETRY_AFTER_S: Final = 5


class Refused(Exception):
    """The handshake is refused with an HTTP status.

    Attributes:
        retry_after_s: where the same request may succeed later.
    """

    def __init__(self, status: HTTPStatus, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after_s = retry_after_s


def admit(request: Request, config: ServerConfig, sessions: int) -> str:
    """Let a WebSocket handshake pass, or refuse it; returns whose it is: a name for the token, empty without tokens.

    Args:
        sessions: how many are open.

    Raises:
        Refused: with 403 for a foreign origin, 401 without a valid token, 503 where the house is full.
    """
    origin = request.headers.get("Origin")
    if origin is not None and not _own(origin, request.headers.get("Host", "")) and origin not in config.origins:
        raise Refused(HTTPStatus.FORBIDDEN, "this origin is not admitted")
    token = _token(request)
    if config.tokens and not _valid(token, config.tokens):
        raise Refused(HTTPStatus.UNAUTHORIZED, "a valid token is needed: as a bearer token, or as ?token=")
    if sessions >= config.max_sessions:
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"all {sessions} sessions are taken", RETRY_AFTER_S)

    return hashlib.sha256(token.encode()).hexdigest()[:16] if config.tokens else ""


def _own(origin: str, host: str) -> bool:
    return origin.partition("://")[2] == host


def _token(request: Request) -> str:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.casefold() == "bearer":
        return credentials.strip()
    offered = [name.strip() for value in request.headers.get_all("Sec-WebSocket-Protocol") for name in value.split(",")]
    for name in offered:
        if name.startswith(TOKEN_SUBPROTOCOL):
            return name.removeprefix(TOKEN_SUBPROTOCOL)
    return parse_qs(urlsplit(request.path).query).get("token", [""])[0]


def _valid(token: str, tokens: tuple[str, ...]) -> bool:
    """Compare with every token, each in constant time."""
    matches = [hmac.compare_digest(token.encode(), known.encode()) for known in tokens]
    return any(matches)
