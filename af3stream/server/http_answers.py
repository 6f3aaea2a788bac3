"""Whole HTTP answers."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from starlette.responses import Response


def respond(
    status: HTTPStatus, body: bytes, content_type: str = "text/plain", extra: dict[str, str] | None = None
) -> Response:
    """Make a whole answer."""
    return Response(body, status, {**headers(content_type), **(extra or {})})


def headers(content_type: str) -> dict[str, str]:
    """Return the headers that every answer has."""
    return {
        "Date": formatdate(usegmt=True),
        "Content-Type": f"{content_type}; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
    }


def refuse(status: HTTPStatus, reason: str, retry_after_s: int | None = None) -> Response:
    """Make an answer that says why a request is refused; the connection closes after it."""
    later = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    return respond(status, f"{reason}\n".encode(), extra={"Connection": "close", **later})
