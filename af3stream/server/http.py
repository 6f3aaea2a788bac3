"""Plain HTTP: health, metrics, and the page."""

from __future__ import annotations

from http import HTTPStatus
from importlib.resources import files
from typing import Final

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Response

PAGE_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE_POLICY: Final = (
    "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
)


def respond(
    status: HTTPStatus, body: bytes, content_type: str = "text/plain", extra: dict[str, str] | None = None
) -> Response:
    """A whole answer; the connection closes after it."""
    headers = Headers(
        {
            "Content-Type": f"{content_type}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Content-Type-Options": "nosniff",
            **(extra or {}),
        }
    )
    return Response(status, status.phrase, headers, body)


def health(sessions: int, max_sessions: int, lag_s: float, model: str) -> Response:
    """`GET /healthz`: 200 while the service works."""
    state = {"status": "ok", "model": model, "sessions": sessions, "max_sessions": max_sessions, "lag_s": lag_s}
    return respond(HTTPStatus.OK, msgspec.json.encode(state), "application/json")


def page(path: str) -> Response:
    """`GET /` and `GET /page/NAME`: the page and its parts, and nothing else."""
    name = "index.html" if path == "/" else path.removeprefix("/page/")
    known = {entry.name: entry for entry in files("af3stream.server").joinpath("page").iterdir()}
    suffix = "." + name.rpartition(".")[2]
    if name not in known or suffix not in PAGE_TYPES:
        return respond(HTTPStatus.NOT_FOUND, b"not found\n")
    policy = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}
    return respond(HTTPStatus.OK, known[name].read_bytes(), PAGE_TYPES[suffix], policy)
