"""Requests with a file: admission, limits on size, time and number, and errors in the API's shape."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from af3stream.config import UploadsConfig
from af3stream.server.admission import RETRY_AFTER_S
from af3stream.server.http_answers import headers
from af3stream.server.http_server import ALLOW
from af3stream.server.openai_errors import ApiError, api_error

log = logging.getLogger(__name__)

T = TypeVar("T")
Answer = Callable[[Request, AsyncExitStack], Awaitable[Response]]
Enter = Callable[[Request], AbstractContextManager[None]]

MOST_FIELDS: Final = 256
FIELD_BYTES: Final = 1 << 16
BLOCK: Final = 1 << 16
WAITING_S: Final = 10.0  # between two events of a stream, before a comment says that it goes on
WAITING: Final = b": waiting\n\n"
EVENTS: Final = 16  # waiting to be read
DONE: Final = b"data: [DONE]\n\n"


class UploadEndpoints:
    """Limits and answers requests with a file.

    Args:
        enter: counts a request while it is answered; raises `Refused` if it is not admitted.
        pause_s: how long the next piece of a body may take.
    """

    def __init__(self, config: UploadsConfig, enter: Enter, pause_s: float) -> None:
        self.config = config
        self._enter = enter
        self._pause_s = pause_s
        self._inside = 0

    def endpoint(self, answer: Answer) -> Callable[[Request], Awaitable[ASGIApp]]:
        """Wrap a handler as an endpoint. Contexts that the handler enters on its stack end after the response."""

        async def endpoint(request: Request) -> ASGIApp:
            stack = AsyncExitStack()
            try:
                stack.enter_context(self._enter(request))
                stack.enter_context(self._place())
                request.scope[ALLOW](self.config.arrive_s + self.config.answer_s)
                return _Closing(await answer(request, stack), stack)
            except BaseException as error:
                await stack.aclose()
                if not isinstance(error, Exception) or isinstance(error, ClientDisconnect):
                    raise
                return _refusal(error)

        return endpoint

    @property
    def max_bytes(self) -> int:
        """The longest body of a request, in bytes."""
        return self.config.max_mb << 20

    async def form(self, request: Request, stack: AsyncExitStack) -> tuple[Path, dict[str, Any]]:
        """Read a form with one file.

        Returns:
            The path of the file, and the other fields. Fields whose names end with `[]` are lists.

        Raises:
            ApiError: for a body that is too long or no such form.
            TimeoutError: for one that does not come in time.
        """
        self._check_length(request)
        parser = MultiPartParser(
            request.headers, self._body(request), max_files=1, max_fields=MOST_FIELDS, max_part_size=FIELD_BYTES
        )
        try:
            async with asyncio.timeout(self.config.arrive_s):
                form = await parser.parse()
        except (MultiPartException, KeyError) as error:  # KeyError: no boundary
            reason = error.message if isinstance(error, MultiPartException) else "no boundary"
            said = f"the body is not a form with a file (multipart/form-data): {reason}"
            raise ApiError(said, code="invalid_form") from None
        try:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise ApiError("there is no file", param="file", code="missing_required_parameter")
            path = stack.enter_context(_named_file())
            await asyncio.to_thread(_copy, upload, path)
        finally:
            await form.close()  # the file is on disk twice until here
        return path, _fields(form)

    async def body(self, request: Request, stack: AsyncExitStack) -> Path:
        """Read a whole body to a file, and return its path. Raises as `form` does."""
        self._check_length(request)
        path = stack.enter_context(_named_file())
        async with asyncio.timeout(self.config.arrive_s):
            with await asyncio.to_thread(path.open, "wb") as file:
                async for chunk in self._body(request):
                    await asyncio.to_thread(file.write, chunk)
        return path

    def _check_length(self, request: Request) -> None:
        stated = request.headers.get("Content-Length", "")
        if stated.isdecimal() and int(stated) > self.max_bytes:
            raise self._too_long()

    async def _body(self, request: Request) -> AsyncGenerator[bytes, None]:
        total = 0
        stream = request.stream()
        while chunk := await asyncio.wait_for(anext(stream, b""), self._pause_s):
            total += len(chunk)
            if total > self.max_bytes:
                raise self._too_long()
            yield chunk

    def _too_long(self) -> ApiError:
        return ApiError(
            f"the body is longer than {self.config.max_mb} MiB",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            code="file_too_large",
        )

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._inside >= self.config.at_once:
            raise ApiError(
                f"{self._inside} files are being heard",
                status=HTTPStatus.TOO_MANY_REQUESTS,
                kind="rate_limit_error",
                code="rate_limit_exceeded",
                retry_after_s=RETRY_AFTER_S,
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


async def while_listening(request: Request, work: Awaitable[T]) -> T:
    """Await the work, and cancel it if the client disconnects.

    Raises:
        ClientDisconnect: if it leaves.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def event_stream(events: AsyncIterator[Any], limit_s: float, *, done: bool) -> Response:
    """Create a response of server-sent events, one JSON object each. An error ends the stream as its last event.

    Args:
        limit_s: how long it may take in all.
        done: whether `[DONE]` ends the stream.
    """
    response = StreamingResponse(_sent(events, limit_s, done=done), headers=headers("text/event-stream"))
    response.headers["Cache-Control"] = "no-cache"
    return response


async def _sent(events: AsyncIterator[Any], limit_s: float, *, done: bool) -> AsyncIterator[bytes]:
    coming: asyncio.Queue[bytes] = asyncio.Queue(maxsize=EVENTS)
    telling = asyncio.create_task(_tell(events, coming, limit_s))
    try:
        while True:
            try:
                event = await asyncio.wait_for(coming.get(), WAITING_S)
            except TimeoutError:
                event = WAITING
            if not event:
                break
            yield event
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
    if done:
        yield DONE


async def _tell(events: AsyncIterator[Any], coming: asyncio.Queue[bytes], limit_s: float) -> None:
    """Encode events to the queue. An empty event ends it."""
    try:
        async with asyncio.timeout(limit_s):
            async for event in events:
                await coming.put(b"data: " + msgspec.json.encode(event) + b"\n\n")
    except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
        await coming.put(b"data: " + msgspec.json.encode({"error": _known(error).fields}) + b"\n\n")
    await coming.put(b"")


class _Closing:
    """A response that closes a stack of contexts when it ends."""

    def __init__(self, response: Response, stack: AsyncExitStack) -> None:
        self._response = response
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await self._response(scope, receive, send)


def _refusal(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        raise error
    return _known(error).response()


def _known(error: Exception) -> ApiError:
    known = api_error(error)
    if known.status is HTTPStatus.INTERNAL_SERVER_ERROR and known.code is None:
        log.error("a request failed", exc_info=error)
    return known


async def _gone(receive: Receive) -> None:
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()


@contextmanager
def _named_file() -> Iterator[Path]:
    """Create a temporary file, and delete it at the end of the context."""
    with tempfile.NamedTemporaryFile(prefix="af3stream-") as file:
        yield Path(file.name)


def _copy(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file, BLOCK)


def _fields(form: FormData) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str):
            continue
        if name.endswith("[]"):
            fields.setdefault(name.removesuffix("[]"), []).append(value)
        else:
            fields[name] = value
    return fields
