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


def admit(
    request: Request,
    address: str,
    config: ServerConfig,
    guests: Collection[Principal],
    no_room: Callable[[str], str | None] = lambda _: None,
) -> Principal:
    """Check a WebSocket handshake, and return whose connection it is.

    Args:
        guests: the connections that are admitted and not closed, also those in their handshake.
        no_room: returns why another session of this user does not fit, or ``None``.

    Raises:
        Refused: with 403 for a foreign origin, 401 without a valid token, 429 if the address or the user has too many
            connections, 503 if all sessions are taken or the service is overloaded.
    """
    origin = request.headers.get("Origin")
    if (
        origin is not None
        and not _own(origin, request.headers.get("Host", ""), config)
        and origin not in config.origins
    ):
        raise Refused(HTTPStatus.FORBIDDEN, "this origin is not admitted")
    token = _token(request)
    if config.tokens and not _valid(token, config.tokens):
        raise Refused(HTTPStatus.UNAUTHORIZED, "a valid token is needed: as a bearer token, or as ?token=")
    guest = Principal(hashlib.sha256(token.encode()).hexdigest()[:16] if config.tokens else "", address)
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
        if name.startswith(TOKEN_SUBPROTOCOL):
            return name.removeprefix(TOKEN_SUBPROTOCOL)
    return parse_qs(urlsplit(request.path).query).get("token", [""])[0]


def _valid(token: str, tokens: tuple[str, ...]) -> bool:
    """Compare a token with every configured one, each in constant time."""
    matches = [hmac.compare_digest(token.encode(), known.encode()) for known in tokens]
    return any(matches)
