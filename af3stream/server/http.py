"""The HTTP application: health, metrics, the page, and the routes that are given to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from af3stream.server.admission import Refused
from af3stream.server.http_answers import refuse, respond
from af3stream.server.openai_errors import ApiError

log = logging.getLogger(__name__)

STREAM_PATH: Final = "/v1/stream"
REALTIME_PATH: Final = "/v1/realtime"
TRANSLATIONS_PATH: Final = "/v1/realtime/translations"
REALTIME_PATHS: Final = (REALTIME_PATH, TRANSLATIONS_PATH)
SOCKET_PATHS: Final = (STREAM_PATH, *REALTIME_PATHS)
API_PREFIX: Final = "/v1/"
PAGE_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE_POLICY: Final = (
    "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
)


def application(
    admit: Callable[[Request], None],
    health: Callable[[], dict[str, Any]],
    metrics: Callable[[], bytes],
    max_body_bytes: int,
    routes: Sequence[BaseRoute] = (),
    origins: Sequence[str] = (),
    unready: Callable[[], str | None] = lambda: None,
) -> Starlette:
    """Create the application.

    Args:
        admit: raises `Refused` if a handshake with the headers of this request would be refused.
        health: returns the content of `GET /healthz`.
        metrics: returns the content of `GET /metrics`, in Prometheus's text format.
        max_body_bytes: the longest body of a request; a longer one is answered with 413.
        routes: further routes; they may allow longer bodies.
        origins: foreign origins whose pages may read the responses.
        unready: returns why new clients should go elsewhere, or ``None``; the content of `GET /readyz`.
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

    async def tell_ready(_: Request) -> Response:
        reason = unready()
        return refuse(HTTPStatus.SERVICE_UNAVAILABLE, reason) if reason else respond(HTTPStatus.OK, b"ready\n")

    async def tell_metrics(_: Request) -> Response:
        return respond(HTTPStatus.OK, metrics(), "text/plain; version=0.0.4")

    cross_origin = Middleware(
        CORSMiddleware, allow_origins=origins, allow_methods=("GET", "POST"), allow_headers=("*",)
    )
    app = Starlette(
        middleware=[cross_origin] if origins else [],
        routes=[
            Route("/", _page),
            Route("/page/{name}", _page),
            Route("/healthz", tell_health),
            Route("/readyz", tell_ready),
            Route("/metrics", tell_metrics),
            *(Route(path, stream) for path in SOCKET_PATHS),
            *routes,
        ],
        exception_handlers={HTTPException: _refused, ClientDisconnect: _ignore_disconnect, Exception: _failed},
        max_body_size=max_body_bytes,
    )
    app.router.redirect_slashes = False
    return app


async def _page(request: Request) -> Response:
    """Serve `GET /` and `GET /page/NAME`: the files of the page, and no others."""
    name = request.path_params.get("name", "index.html")
    known = {entry.name: entry for entry in files("af3stream.server").joinpath("page").iterdir()}
    suffix = "." + name.rpartition(".")[2]
    if name not in known or suffix not in PAGE_TYPES:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    policy = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}
    return respond(HTTPStatus.OK, known[name].read_bytes(), PAGE_TYPES[suffix], policy)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if request.url.path.startswith(API_PREFIX) and request.url.path not in SOCKET_PATHS:
        answer = ApiError(f"{status.phrase}: {request.method} {request.url.path}", status=status).response()
        answer.headers.update(error.headers or {})
        return answer
    return respond(status, f"{status.phrase.lower()}\n".encode(), extra=dict(error.headers or {}))


async def _ignore_disconnect(_request: Request, _error: Exception) -> Response:
    """Do not respond: the client left, or sent an invalid body, before the end of its body."""
    return refuse(HTTPStatus.BAD_REQUEST, "the body is not complete")


async def _failed(_: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error")
