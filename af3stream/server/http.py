"""The HTTP application: health, metrics, and the page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from af3stream.server.admission import Refused

log = logging.getLogger(__name__)

STREAM_PATH: Final = "/v1/stream"
PAGE_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE_POLICY: Final = (
    "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
)


def application(
    admit: Callable[[Request], None],
    health: Callable[[], dict[str, Any]],
    metrics: Callable[[], bytes],
    max_body_bytes: int,
) -> Starlette:
    """Create the application.

    Args:
        admit: raises `Refused` if a handshake with the headers of this request would be refused.
        health: returns the content of `GET /healthz`.
        metrics: returns the content of `GET /metrics`, in Prometheus's text format.
        max_body_bytes: the longest body of a request; a longer one is answered with 413.
    """

    async def stream(request: Request) -> Response:
        """Answer a plain request of the stream with the reason to refuse its handshake, or with 426."""
        try:
            admit(request)
        except Refused as refused:
            return refuse(refused.status, str(refused), refused.retry_after_s)
        raise HTTPException(HTTPStatus.UPGRADE_REQUIRED, headers={"Upgrade": "websocket", "Connection": "Upgrade"})

    async def tell_health(_: Request) -> Response:
        return respond(HTTPStatus.OK, msgspec.json.encode(health()), "application/json")

    async def tell_metrics(_: Request) -> Response:
        return respond(HTTPStatus.OK, metrics(), "text/plain; version=0.0.4")

    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/page/{name}", _page),
            Route("/healthz", tell_health),
            Route("/metrics", tell_metrics),
            Route(STREAM_PATH, stream),
        ],
        exception_handlers={HTTPException: _refused, ClientDisconnect: _ignore_disconnect, Exception: _failed},
        max_body_size=max_body_bytes,
    )
    app.router.redirect_slashes = False
    return app


def respond(
    status: HTTPStatus, body: bytes, content_type: str = "text/plain", extra: dict[str, str] | None = None
) -> Response:
    """Create a complete response."""
    headers = {
        "Date": formatdate(usegmt=True),
        "Content-Type": f"{content_type}; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
        **(extra or {}),
    }
    return Response(body, status, headers)


def refuse(status: HTTPStatus, reason: str, retry_after_s: int | None = None) -> Response:
    """Create a response that refuses a request; the connection closes after it."""
    later = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    return respond(status, f"{reason}\n".encode(), extra={"Connection": "close", **later})


async def _page(request: Request) -> Response:
    """Serve `GET /` and `GET /page/NAME`: the files of the page, and no others."""
    name = request.path_params.get("name", "index.html")
    known = {entry.name: entry for entry in files("af3stream.server").joinpath("page").iterdir()}
    suffix = "." + name.rpartition(".")[2]
    if name not in known or suffix not in PAGE_TYPES:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    policy = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}
    return respond(HTTPStatus.OK, known[name].read_bytes(), PAGE_TYPES[suffix], policy)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return respond(status, f"{status.phrase.lower()}\n".encode(), extra=dict(error.headers or {}))


async def _ignore_disconnect(_request: Request, _error: Exception) -> Response:
    """Do not respond: the client left, or sent an invalid body, before the end of its body."""
    return refuse(HTTPStatus.BAD_REQUEST, "the body is not complete")


async def _failed(_: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error")
