"""Decide at the handshake who may connect."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request

from af3stream.config import ServerConfig

TOKEN_SUBPROTOCOL: Final = "af3stream.token."  # carries the token of a browser, which cannot set headers
OPENAI_SUBPROTOCOL: Final = "openai-insecure-api-key."  # the same, as in the OpenAI API
RETRY_AFTER_S: Final = 5


class Refused(Exception):
    """A handshake is refused with an HTTP status.

    Attributes:
        retry_after_s: seconds after which the same request may succeed, or ``None``.
    """

    def __init__(self, status: HTTPStatus, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Principal:
    """The user and address of a connection.

    Attributes:
        user: a name for the token; empty if the service has no tokens.
        address: the peer's address; behind a proxy, the proxy's.
    """

    user: str
    address: str


def authenticate(request: Request, config: ServerConfig) -> str:
    """Return whose request it is: a name for its token, empty if no tokens are configured.

    Raises:
        Refused: with 403 for a foreign origin, 401 without a valid token.
    """
    origin = request.headers.get("Origin")
    if (
        origin is not None
        and not _own(origin, request.headers.get("Host", ""), config)
        and origin not in config.origins
    ):
        raise Refused(HTTPStatus.FORBIDDEN, "this origin is not admitted")
    if not config.tokens:
        return ""
    token = _token(request)
    if not _valid(token, config.tokens):
        raise Refused(HTTPStatus.UNAUTHORIZED, "a valid token is needed: as a bearer token, or as ?token=")
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def admit(
    request: Request,
    address: str,
    config: ServerConfig,
    guests: Collection[Principal],
    no_room: Callable[[str], str | None] = lambda _: None,
) -> Principal:
    """Let a WebSocket handshake, or a request with audio, pass, or refuse it; returns whose it is.

    Args:
        guests: who is admitted already and not gone, those whose handshake is not done yet included.
        no_room: why a session of this user would be one too many.

    Raises:
        Refused: as `authenticate` does, and with 429 where the address or the user has enough connections, 503 where
            the house is full, or has too much to do.
    """
    guest = Principal(authenticate(request, config), address)
    if _enough([other for other in guests if other.address == address], config.max_connections_per_address):
        raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "this address has too many connections", RETRY_AFTER_S)
    if _enough([other for other in guests if other.user == guest.user], config.max_sessions_per_user):
        raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "this user has too many sessions", RETRY_AFTER_S)
    if _enough(guests, config.max_sessions):
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"all {config.max_sessions} sessions are taken", RETRY_AFTER_S)
    if reason := no_room(guest.user):
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, reason, RETRY_AFTER_S)
    return guest


def _enough(guests: Collection[Principal], most: int) -> bool:
    return 0 < most <= len(guests)


def _own(origin: str, host: str, config: ServerConfig) -> bool:
    """Return whether a page is the service's own.

    The owner of any domain can point it to this address, and a page of that domain then names it as the host. So an
    unconfigured name is accepted only if a token is required, because such a page has no token.
    """
    return origin.partition("://")[2] == host and (bool(config.tokens) or _is_known(host, config))


def _is_known(host: str, config: ServerConfig) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in ("localhost", config.host) or bool(ip_address(name))
    except ValueError:
        return False


def _token(request: Request) -> str:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.casefold() == "bearer":
        return credentials.strip()
    offered = [name.strip() for value in request.headers.get_all("Sec-WebSocket-Protocol") for name in value.split(",")]
    for name in offered:
        for prefix in (TOKEN_SUBPROTOCOL, OPENAI_SUBPROTOCOL):
            if name.startswith(prefix):
                return name.removeprefix(prefix)
    return parse_qs(urlsplit(request.path).query).get("token", [""])[0]


def _valid(token: str, tokens: tuple[str, ...]) -> bool:
    """Compare a token with every configured one, each in constant time."""
    matches = [hmac.compare_digest(token.encode(), known.encode()) for known in tokens]
    return any(matches)
