"""From an address to a session: what is sent, and how refusals read."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.asyncio.server import serve

from af3stream.client import (
    AdmissionError,
    AuthenticationError,
    ClientError,
    NetworkError,
    ProtocolError,
    ServerError,
    connect,
    stream_url,
)
from af3stream.errors import SourceError
from af3stream.protocol.features import FEATURES
from af3stream.protocol.messages import Error, Speech, Start
from tests.client.scripted_server import Peer, polite, serving
from tests.server.peers import serving as serving_tls
from tests.server.test_tls import issue


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


async def test_the_language_the_task_and_the_vocabulary_are_asked_for():
    async with serving(polite) as server:
        asked = {"language": "es", "languages": ["es", "en"], "task": "translate", "vocabulary": ["Ugarte"]}
        async with connect(server.url, **asked):
            pass
        assert server.heard[0] == Start(
            language="es", languages=("es", "en"), task="translate", vocabulary=("Ugarte",), features=FEATURES
        )


async def test_the_token_is_a_bearer_header_and_nothing_is_compressed():
    async with serving(polite) as server:
        async with connect(server.url, token="secret", additional_headers={"X-Tenant": "a"}):
            pass
        headers = server.requests[0].headers
        assert headers["Authorization"] == "Bearer secret"
        assert headers["X-Tenant"] == "a"
        assert "Sec-WebSocket-Extensions" not in headers
        assert server.requests[0].path == "/v1/stream"


@pytest.mark.parametrize(
    ("status", "wait", "cause", "sentence"),
    [
        (401, None, AuthenticationError, r"/v1/stream wants a valid token: HTTP 401$"),
        (403, None, AuthenticationError, "does not admit this client: HTTP 403"),
        (404, None, ProtocolError, "has no such service: HTTP 404"),
        (429, "7", AdmissionError, "has too many sessions of this client: HTTP 429, try again in 7 s"),
        (503, "30", AdmissionError, "has no room for another session: HTTP 503, try again in 30 s"),
        (500, "soon\x07", NetworkError, "refuses the connection: HTTP 500$"),
    ],
)
async def test_a_refused_handshake_is_an_error_by_its_cause(
    status: int, wait: str | None, cause: type[ClientError], sentence: str
):
    def refuse(connection, request):
        response = connection.respond(HTTPStatus(status), "")
        if wait:
            response.headers["Retry-After"] = wait
        return response

    async with serving(polite, refuse=refuse) as server:
        with pytest.raises(cause, match=sentence) as raised:
            async with connect(server.url + "?token=hidden"):
                pass
    if isinstance(raised.value, AdmissionError):
        assert raised.value.retry_after_s == float(wait or 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_refused_connection_is_one_sentence(host: str):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(NetworkError, match=rf"^cannot reach ws://{host}:{port}/v1/stream: Connection refused$"):
            async with connect(f"http://{host}:{port}"):
                pass


async def test_another_kind_of_server_is_one_sentence():
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NetworkError, match="does not answer as this service does"):
            async with connect(f"ws://127.0.0.1:{port}"):
                pass


async def test_a_websocket_without_the_subprotocol_is_one_sentence():
    async def wait(connection) -> None:
        await connection.wait_closed()

    async with serve(wait, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ProtocolError, match=r"does not speak af3stream\.v1\.msgpack"):
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


async def test_a_server_that_never_gets_ready_is_one_sentence():
    async def silent(peer: Peer) -> None:
        await peer.socket.wait_closed()

    async def hasty(peer: Peer) -> None:
        await peer.send(Speech("started", 0))

    async def closing(peer: Peer) -> None:
        await peer.socket.close(1013, "later")

    for script, open_timeout, sentence in (
        (silent, 0.2, "said nothing"),
        (hasty, 60.0, "began with Speech"),
        (closing, 60.0, "code 1013: later"),
    ):
        async with serving(script) as server:
            with pytest.raises(ClientError, match=sentence):
                async with connect(server.url, open_timeout=open_timeout):
                    pass


async def test_a_proxy_that_is_named_is_used():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with serving(polite) as server:
            with pytest.raises(NetworkError):
                async with connect(server.url, proxy=proxy):
                    pass
            assert server.requests == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")
async def test_a_tls_context_decides_which_certificate_is_trusted(tmp_path: Path):
    settings = issue(tmp_path)
    trusting = ssl.create_default_context(cafile=settings["tls_certificate"])
    async with serving_tls(**settings) as service:
        async with connect(service.address, ssl=trusting) as session:
            await session.end()
        with pytest.raises(NetworkError, match="certificate"):
            async with connect(service.address):
                pass
