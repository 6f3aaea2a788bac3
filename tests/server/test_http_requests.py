"""Requests as no browser sends them: wrong methods, bodies, slow ones, too many; and WebSockets on the same port."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from af3stream.protocol import messages as m
from af3stream.protocol.codec import JSON
from af3stream.server.service import Service
from tests.server.peers import PATIENCE_S, get, serving, talking
from tests.server.test_admission import UPGRADE
from tests.server.test_tls import issue
from tests.server.wire import CLOSE, FIN, TEXT, frame

PATHS = ("/", "/page/app.js", "/healthz", "/metrics", "/v1/stream")
CHUNKED = "Transfer-Encoding: chunked\r\n"


class HttpPeer:
    """A connection that sends bytes and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, method: str = "GET", path: str = "/healthz", headers: str = "", body: bytes = b"") -> None:
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode() + body)

    async def answer(self, bodiless: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        async with asyncio.timeout(PATIENCE_S):
            first, *rest = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.title(): value for name, value in (line.split(": ", 1) for line in rest)}
            size = 0 if bodiless else int(headers["Content-Length"])
            return int(first.split()[1]), headers, await self.reader.readexactly(size)

    async def until_closed(self) -> bytes:
        """All that is left; a reset is an end, too."""
        left = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while data := await self.reader.read(1 << 16):
                    left += data
            except ConnectionError:
                pass
        return left


@asynccontextmanager
async def http_peer(service: Service, **options: Any) -> AsyncIterator[HttpPeer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, **options)
    try:
        yield HttpPeer(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def answering(endpoint: Callable[[Request], Any], **limits: Any) -> AsyncIterator[Service]:
    """A service with one more route, `/more`, for GET and POST."""
    async with serving(**limits) as service:
        assert isinstance(service._http.app, Starlette)
        service._http.app.router.routes.append(Route("/more", endpoint, methods=["GET", "POST"]))
        yield service


async def come_and_gone(service: Service) -> None:
    """Wait until a connection is there, and then until none is."""
    async with asyncio.timeout(PATIENCE_S):
        while not service._http.state.connections:  # noqa: ASYNC110 - the server has no reason to tell
            await asyncio.sleep(0.01)
    await gone(service)


async def gone(service: Service) -> None:
    """Wait until no connection is there, and no request is being answered."""
    async with asyncio.timeout(PATIENCE_S):
        while service._http.state.connections or service._http.state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# ---- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "SESAME"])
async def test_a_wrong_method_is_answered_with_405_and_those_allowed(method: str, path: str) -> None:
    async with serving() as service, http_peer(service) as peer:
        peer.send(method, path)
        status, headers, _ = await peer.answer()
        assert status == 405
        assert sorted(headers["Allow"].split(", ")) == ["GET", "HEAD"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        peer.send()
        assert (await peer.answer())[0] == 200


@pytest.mark.parametrize("path", ["/", "/page/style.css", "/healthz"])
async def test_head_has_the_headers_of_get_and_no_body(path: str) -> None:
    async with serving() as service, http_peer(service) as peer:
        peer.send("GET", path)
        status, got, _ = await peer.answer()
        peer.send("HEAD", path)
        peer.send()
        status_of_head, headers, _ = await peer.answer(bodiless=True)
        assert (status_of_head, headers | {"Date": ""}) == (status, got | {"Date": ""})
        assert (await peer.answer())[0] == 200  # nothing stood in between


async def test_a_method_of_an_unknown_path_is_answered_with_404() -> None:
    async with serving() as service, http_peer(service) as peer:
        peer.send("DELETE", "/nothing")
        assert (await peer.answer())[0] == 404


# ---- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
async def test_a_body_that_nobody_wants_is_read_past(expect: str) -> None:
    async with serving() as service, http_peer(service) as peer:
        peer.send("POST", "/", f"Content-Length: 5\r\n{expect}", b"hello")
        assert (await peer.answer())[0] == 405
        peer.send("POST", "/", CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")
        assert (await peer.answer())[0] == 405
        peer.send()
        assert (await peer.answer())[0] == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_sent() -> None:
    async with serving(max_body_bytes=1_000) as service, http_peer(service) as peer:
        peer.send("GET", "/healthz", "Content-Length: 1001\r\n")
        assert (await peer.answer())[0] == 413


async def test_an_upload_without_end_is_answered_and_cut_off() -> None:
    async with serving(max_body_bytes=100_000) as service, http_peer(service) as peer:
        peer.send("POST", "/", CHUNKED)
        assert (await peer.answer())[0] == 405
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    peer.writer.write(b"2710\r\n" + bytes(10_000) + b"\r\n")
                    await peer.writer.drain()
                    await asyncio.sleep(0)


async def test_a_chunked_body_over_the_limit_is_refused() -> None:
    async def count(request: Request) -> Response:
        return Response(str(len(await request.body())))

    async with answering(count, max_body_bytes=1_000) as service, http_peer(service) as peer:
        peer.send("POST", "/more", CHUNKED, b"3e8\r\n" + bytes(1_000) + b"\r\n0\r\n\r\n")
        assert (await peer.answer())[::2] == (200, b"1000")
        peer.send("POST", "/more", CHUNKED, b"3e8\r\n" + bytes(1_000) + b"\r\n1\r\n-\r\n0\r\n\r\n")
        assert (await peer.answer())[0] == 413


# ---- many and malformed ----------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as service, http_peer(service) as peer:
        for path in ("/healthz", "/nothing", "/page/app.js", "/healthz") * 10:
            peer.send("GET", path)
        for status in (200, 404, 200, 200) * 10:
            assert (await peer.answer())[0] == status


@pytest.mark.parametrize(
    "garbage",
    [
        b"sesame\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET /" + b"x" * 17_000,
    ],
)
async def test_what_is_no_request_is_answered_with_400(garbage: bytes) -> None:
    async with serving() as service, http_peer(service) as peer:
        peer.writer.write(garbage)
        assert (await peer.until_closed()).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("path", ["/", "/more"], ids=["nobody reads", "somebody reads"])
@pytest.mark.parametrize("sent", [b"zz\r\n", None], ids=["no chunk", "gone"])
async def test_a_body_that_breaks_off_costs_its_connection_and_no_error(
    sent: bytes | None, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    reading = asyncio.Event()

    async def count(request: Request) -> Response:
        reading.set()
        return Response(str(len(await request.body())))

    async with answering(count) as service, http_peer(service) as peer:
        peer.send("POST", path, CHUNKED, b"5\r\nhello\r\n")
        if path == "/":
            assert (await peer.answer())[0] == 405
        else:
            await reading.wait()
        if sent:
            peer.writer.write(sent)
            assert (await peer.until_closed()).startswith(b"HTTP/1.1 400" if path == "/more" else b"")
        else:
            peer.writer.transport.abort()
        await gone(service)
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


async def test_headers_over_the_limit_are_refused() -> None:
    async with serving(max_head_bytes=1_024) as service, http_peer(service) as peer:
        peer.send(headers=f"X: {'x' * 1_024}\r\n")
        status, headers, _ = await peer.answer()
        assert (status, headers["Connection"]) == (431, "close")
        assert await peer.until_closed() == b""


async def test_one_connection_too_many_is_told_to_come_later() -> None:
    async with serving(max_http_connections=2) as service, AsyncExitStack() as leaving:
        for _ in range(2):
            peer = await leaving.enter_async_context(http_peer(service))
            peer.send()
            assert (await peer.answer())[0] == 200
        other = await leaving.enter_async_context(http_peer(service))
        other.send()
        status, headers, _ = await other.answer()
        assert (status, headers["Retry-After"], headers["Connection"]) == (503, "5", "close")
        async with talking(service):  # sockets have limits of their own
            peer.send()
            assert (await peer.answer())[0] == 200
        assert service.metrics.registry.get_sample_value("af3stream_refusals_total", {"code": "503"}) == 1


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [0, 1])
async def test_a_request_head_that_never_ends_is_cut_off(earlier: int) -> None:
    async with serving(open_timeout_s=0.2, keep_alive_s=1) as service, http_peer(service) as peer:
        for _ in range(earlier):
            peer.send()
            assert (await peer.answer())[0] == 200

        async def trickle() -> None:
            while True:
                peer.writer.write(b"G")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert await peer.until_closed() == b""
        trickling.cancel()


async def test_a_connection_without_a_next_request_is_closed() -> None:
    async with serving(keep_alive_s=1, open_timeout_s=60) as service, http_peer(service) as peer:
        peer.send()
        assert (await peer.answer())[0] == 200
        assert await peer.until_closed() == b""


async def test_a_body_that_never_ends_is_told_so() -> None:
    async def count(request: Request) -> Response:
        return Response(str(len(await request.body())))

    async with answering(count, request_timeout_s=0.2) as service, http_peer(service) as peer:
        peer.send("POST", "/more", "Content-Length: 5\r\n", b"he")
        assert (await peer.answer())[0] == 408


async def test_an_answer_that_nobody_reads_is_cut_off() -> None:
    async def without_end() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    async def answer(_: Request) -> Response:
        return StreamingResponse(without_end())

    async with answering(answer, request_timeout_s=0.2) as service, http_peer(service, limit=1_024) as peer:
        peer.send("GET", "/more")
        await come_and_gone(service)
        assert (await get(service, "/healthz"))[0] == 200


async def test_pipelined_answers_that_nobody_reads_are_cut_off() -> None:
    async with serving(request_timeout_s=0.2) as service, http_peer(service, limit=1_024) as peer:
        for _ in range(2_000):
            peer.send("GET", "/page/app.js")
        await come_and_gone(service)
        assert (await get(service, "/healthz"))[0] == 200


async def test_an_answer_in_pieces_lasts_as_long_as_pieces_come() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(6):
            await asyncio.sleep(0.1)
            yield f"{number}".encode()

    async def answer(_: Request) -> Response:
        return StreamingResponse(pieces())

    async with answering(answer, request_timeout_s=0.4) as service, http_peer(service) as peer:
        peer.send("GET", "/more", "Connection: close\r\n")
        assert (await peer.until_closed()).endswith(b"1\r\n5\r\n0\r\n\r\n")


async def test_what_fails_is_answered_with_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: Request) -> Response:
        raise RuntimeError("no")

    async with answering(fail) as service, http_peer(service) as peer:
        peer.send("GET", "/more")
        assert (await peer.answer())[0] == 500
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["a request failed"]


async def test_a_shutdown_waits_for_requests_and_for_nothing_else() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Response:
        begun.set()
        await go_on.wait()
        return Response("done")

    async with AsyncExitStack() as leaving, AsyncExitStack() as running:
        service = await running.enter_async_context(answering(slow, open_timeout_s=60, drain_s=60))
        silent, torn, idle, busy = [await leaving.enter_async_context(http_peer(service)) for _ in range(4)]
        torn.writer.write(b"GET / HT")
        idle.send()
        assert (await idle.answer())[0] == 200
        busy.send("GET", "/more")
        await begun.wait()
        closing = asyncio.create_task(running.aclose())
        for peer in (silent, torn, idle):
            assert await peer.until_closed() == b""
        assert not closing.done()
        go_on.set()
        assert (await busy.answer())[::2] == (200, b"done")
        await closing


# ---- TLS, and sockets on the same port -------------------------------------------------------------------------------


async def test_requests_over_tls(tmp_path: Path) -> None:
    settings = issue(tmp_path)
    trusting = ssl.create_default_context(cafile=settings["tls_certificate"])
    async with serving(**settings) as service, http_peer(service, ssl=trusting) as peer:
        peer.send()
        peer.send("PUT", "/")
        assert (await peer.answer())[0] == 200
        assert (await peer.answer())[0] == 405
        peer.send("HEAD", "/", "Connection: close\r\n")
        assert (await peer.answer(bodiless=True))[0] == 200
        assert await peer.until_closed() == b""


async def test_a_socket_begins_on_a_connection_that_was_used_before() -> None:
    async with serving() as service, http_peer(service) as peer:
        peer.send()
        assert (await peer.answer())[0] == 200
        peer.send("GET", "/v1/stream", f"{UPGRADE}Sec-WebSocket-Protocol: {JSON}\r\n", frame(FIN | TEXT, b"{}"))
        assert (await peer.answer(bodiless=True))[0] == 101
        assert b'"bad_message"' in await asyncio.wait_for(peer.reader.read(1_000), PATIENCE_S)  # sent ahead of time
        assert not service._http.state.connections and service.sessions == 1
        peer.writer.write(frame(FIN | CLOSE, (1000).to_bytes(2)))
        await peer.until_closed()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/stream", "", 426),
        ("GET", "/v1/stream", "Upgrade: h2c\r\nConnection: Upgrade\r\n", 426),
        ("GET", "/v1/stream", f"{UPGRADE}Content-Length: 5\r\n", 426),
        ("GET", "/", UPGRADE, 200),
        ("GET", "/nothing", UPGRADE, 404),
        ("POST", "/v1/stream", f"{UPGRADE}Content-Length: 5\r\n", 405),
        ("GET", "/v1/stream", UPGRADE, 400),  # no subprotocol
    ],
)
async def test_what_is_no_handshake_is_told_so(method: str, path: str, headers: str, status: int) -> None:
    async with serving() as service, http_peer(service) as peer:
        peer.send(method, path, headers, b"hello" if "Content-Length" in headers else b"")
        answered, fields, _ = await peer.answer()
        assert answered == status
        assert ("Upgrade" in fields) == (status == 426)
        assert ("Allow" in fields) == (status == 405)


async def test_a_session_beside_requests() -> None:
    async with serving() as service, talking(service) as session, http_peer(service) as peer:
        for number in range(20):
            peer.send("POST", "/", "Content-Length: 5\r\n", b"hello")
            assert (await peer.answer())[0] == 405
            await session.tell(m.Flush(f"f{number}"))
            await session.until(m.Flushed)
