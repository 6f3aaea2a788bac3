"""Errors in the shape of the OpenAI API."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.responses import Response

from af3stream.errors import BadMessage, EngineError, EngineFailed, QueryLimit, Refusal, ShuttingDown, StorageError
from af3stream.server.admission import RETRY_AFTER_S, Refused
from af3stream.server.http_answers import respond

INVALID: Final = "invalid_request_error"
SERVER: Final = "server_error"


class ApiError(Exception):
    """A request that is refused.

    Attributes:
        param: the field that is wrong, if it is one.
        code: what a program decides by; `None` if the type says it all.
        retry_after_s: when the same request may succeed.
    """

    def __init__(
        self,
        message: str,
        *,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def fields(self) -> dict[str, Any]:
        """The `error` object that both the HTTP answer and the event carry."""
        return {"type": self.kind, "code": self.code, "message": str(self), "param": self.param}

    def response(self) -> Response:
        """Return the HTTP answer."""
        later = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        return respond(self.status, msgspec.json.encode({"error": self.fields}), "application/json", later)


def api_error(error: Exception) -> ApiError:
    """Convert an error of the service. An unexpected error reveals no details."""
    match error:
        case ApiError():
            return error
        case Refused():
            return _handshake(error)
        case StorageError() | ShuttingDown():
            return _unavailable(str(error), error.code)
        case EngineFailed() | EngineError():
            code = getattr(error, "code", None)
            return ApiError(str(error), status=HTTPStatus.INTERNAL_SERVER_ERROR, kind=SERVER, code=code)
        case QueryLimit():
            return ApiError(str(error), code=error.code)
        case BadMessage():
            return ApiError(str(error), code="invalid_value")
        case Refusal():
            return ApiError(str(error), code=error.code)
        case TimeoutError():
            return _unavailable("the request took too long", "timeout")
        case OSError():
            return _unavailable("the server has no room for the upload", "storage_full")
    return ApiError("the server made a mistake", status=HTTPStatus.INTERNAL_SERVER_ERROR, kind=SERVER)


def _handshake(refused: Refused) -> ApiError:
    match refused.status:
        case HTTPStatus.UNAUTHORIZED:
            kind, code = INVALID, "invalid_api_key"
        case HTTPStatus.FORBIDDEN:
            kind, code = INVALID, "origin_not_allowed"
        case HTTPStatus.TOO_MANY_REQUESTS:
            kind, code = "rate_limit_error", "rate_limit_exceeded"
        case _:
            kind, code = SERVER, "overloaded"
    return ApiError(str(refused), status=refused.status, kind=kind, code=code, retry_after_s=refused.retry_after_s)


def _unavailable(message: str, code: str) -> ApiError:
    return ApiError(message, status=HTTPStatus.SERVICE_UNAVAILABLE, kind=SERVER, code=code, retry_after_s=RETRY_AFTER_S)
