"""From an address to a session: what is sent, and how refusals read."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus

import pytest
from websockets.asyncio.server import serve

from af3stream.client import ServerError, connect, stream_url
from af3stream.client import connecting as connecting_module
from af3stream.errors import SourceError
from af3stream.protocol.messages import Error, Speech
from tests.client.scripted_server import Peer, polite, serving


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://host:1", "ws://host:1/v1/stream"),
        ("http://host:1/", "ws://host:1/v1/stream"),
        ("https://host", "wss://host/v1/stream"),
        ("wss://[::1]:8765/other?x=1", "wss://[::1]:8765/other?x=1"),
        (" ws://host#part ", "ws://host/v1/stream"),
    ],
)
def test_an_address_gets_its_scheme_and_path(url: str, address: str):
    assert stream_url(url) == address


@pytest.mark.parametrize("url", ["", "localhost:8765", "ftp://host", "ws://", "ws://host:99999", "ws://[", "ws://h:x"])
def test_what_is_no_address_is_one_sentence(url: str):
    with pytest.raises(SourceError, match="is not an address of the form ws://host:port"):
        stream_url(url)


async def test_the_token_is_a_bearer_header_and_nothing_is_compressed():
    async with serving(polite) as server:
        async with connect(server.url, token="secret"):
            pass
        headers = server.requests[0].headers
        assert headers["Authorization"] == "Bearer secret"
        assert "Sec-WebSocket-Extensions" not in headers
        assert server.requests[0].path == "/v1/stream"


@pytest.mark.parametrize(
    ("status", "wait", "sentence"),
    [
        (401, None, r"/v1/stream wants a valid token: HTTP 401$"),
        (403, None, "does not admit this client: HTTP 403"),
        (404, None, "has no such service: HTTP 404"),
        (429, "7", "has too many sessions of this client: HTTP 429, try again in 7 s"),
        (503, "30", "has no room for another session: HTTP 503, try again in 30 s"),
        (500, "soon\x07", "refuses the connection: HTTP 500$"),
    ],
)
async def test_a_refused_handshake_is_one_sentence(status: int, wait: str | None, sentence: str):
    def refuse(connection, request):
        response = connection.respond(HTTPStatus(status), "")
        if wait:
            response.headers["Retry-After"] = wait
        return response

    async with serving(polite, refuse=refuse) as server:
        with pytest.raises(SourceError, match=sentence):
            async with connect(server.url + "?token=hidden"):
                pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_refused_connection_is_one_sentence(host: str):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(SourceError, match=rf"^cannot reach ws://{host}:{port}/v1/stream: Connection refused$"):
            async with connect(f"http://{host}:{port}"):
                pass


async def test_another_kind_of_server_is_one_sentence():
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SourceError, match="does not answer as this service does"):
            async with connect(f"ws://127.0.0.1:{port}"):
                pass


async def test_a_websocket_without_the_subprotocol_is_one_sentence():
    async def wait(connection) -> None:
        await connection.wait_closed()

    async with serve(wait, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SourceError, match=r"does not speak af3stream\.v1\.msgpack"):
            async with connect(f"ws://127.0.0.1:{port}"):
                pass


async def test_a_refused_session_carries_the_servers_error():
    async def strict(peer: Peer) -> None:
        await peer.receive()
        await peer.send(Error("bad_format", "rate is 5", fatal=True, retryable=False))
        await peer.socket.close(4422)

    async with serving(strict) as server:
        with pytest.raises(ServerError, match=r"rate is 5 \(bad_format\)"):
            async with connect(server.url, rate=5):
                pass


async def test_a_server_that_never_gets_ready_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connecting_module, "OPEN_TIMEOUT_S", 0.2)

    async def silent(peer: Peer) -> None:
        await peer.socket.wait_closed()

    async def hasty(peer: Peer) -> None:
        await peer.send(Speech("started", 0))

    async def closing(peer: Peer) -> None:
        await peer.socket.close(1013, "later")

    for script, sentence in ((silent, "said nothing"), (hasty, "began with Speech"), (closing, "code 1013: later")):
        async with serving(script) as server:
            with pytest.raises(SourceError, match=sentence):
                async with connect(server.url):
                    pass
