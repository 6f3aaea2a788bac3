"""TLS from certificate files: wss and https, a new certificate without a restart, and nothing without a good one."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from af3stream.config import ServerConfig
from af3stream.errors import ConfigError
from af3stream.protocol import messages as m
from af3stream.protocol.codec import MSGPACK, client_codec
from af3stream.server import tls
from af3stream.server.service import Service
from af3stream.server.tls import Tls
from tests.server.peers import Peer, serving, stream_url

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")


def issue(folder: Path, name: str = "localhost") -> dict[str, str]:
    """A certificate and its key; the settings that name them."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name}"
    names = f"subjectAltName=DNS:{name},IP:127.0.0.1"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), "-addext", names, *files], check=True, capture_output=True)
    return {"tls_certificate": str(certificate), "tls_key": str(key)}


def name_in(der: bytes) -> str:
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "multiline"]
    subject = subprocess.run(command, input=der, check=True, capture_output=True).stdout.decode()
    return subject.strip().rpartition("= ")[2]


async def shown(service: Service) -> str:
    """Hold a session over TLS, trusting whoever is there; the name in the certificate."""
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    url = stream_url(service).replace("ws://", "wss://")
    async with connect(url, subprotocols=[MSGPACK], compression=None, ssl=trusting) as socket:
        peer = Peer(socket, client_codec(MSGPACK), [])
        await peer.tell(m.Start(), m.End(0))
        await peer.until(m.Ended)
        der = socket.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return name_in(der)


async def test_a_session_runs_over_tls_and_not_beside_it(tmp_path: Path) -> None:
    settings = issue(tmp_path)
    trusting = ssl.create_default_context(cafile=settings["tls_certificate"])
    async with serving(**settings) as service:
        assert service.address.startswith("https://")
        url = stream_url(service).replace("ws://", "wss://")
        async with connect(url, subprotocols=[MSGPACK], ssl=trusting):
            pass
        with pytest.raises(Exception, match="did not receive a valid HTTP response"):
            await connect(stream_url(service), subprotocols=[MSGPACK], open_timeout=20)


async def test_a_tls_handshake_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    async with serving(**issue(tmp_path), open_timeout_s=0.3) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("opening", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_flood_of_open_tls_handshakes_keeps_no_newcomer_out(tmp_path: Path, opening: bytes) -> None:
    async with serving(**issue(tmp_path), max_handshakes=4, open_timeout_s=30) as service:
        crowd = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(opening)
            crowd.append((reader, writer))
        async with asyncio.timeout(20):
            for reader, writer in crowd[:16]:
                with suppress(ConnectionError):
                    assert await reader.read() == b""  # cut off
                writer.close()
        assert await shown(service) == "localhost"  # who comes in at once can
        assert not any(reader.at_eof() for reader, _ in crowd[17:])
        for _, writer in crowd[16:]:
            writer.close()


async def test_what_is_no_tls_is_gone_at_once(tmp_path: Path) -> None:
    async with serving(**issue(tmp_path), open_timeout_s=30) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(20):
            with suppress(ConnectionError):
                await reader.read()
        writer.close()
        assert await shown(service) == "localhost"
        assert not service._http.handshakes


async def test_a_shutdown_does_not_wait_for_tls_handshakes(tmp_path: Path) -> None:
    async with asyncio.timeout(40):
        async with serving(**issue(tmp_path), open_timeout_s=60) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            while not service._http.handshakes:  # noqa: ASYNC110 - the server has no reason to tell
                await asyncio.sleep(0.01)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_a_new_certificate_needs_no_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "af3stream.server.tls")
    async with serving(**issue(tmp_path, "old.example")) as service:
        assert service._tls is not None
        assert await shown(service) == "old.example"
        (tmp_path / "certificate.pem").write_text("torn")
        service._tls.reload()
        assert await shown(service) == "old.example"
        issue(tmp_path, "new.example")
        service._tls.reload()
        assert await shown(service) == "new.example"
        service._tls.reload()  # nothing changed
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == tls.__name__]
    assert [level for level, _ in told] == ["WARNING", "INFO"]
    assert "cannot be reloaded" in told[0][1] and str(tmp_path) not in told[0][1]


@pytest.mark.parametrize("what", ["missing", "no PEM", "another key"])
def test_without_a_good_certificate_nothing_begins(tmp_path: Path, what: str) -> None:
    settings = issue(tmp_path)
    if what == "missing":
        Path(settings["tls_key"]).unlink()
    elif what == "no PEM":
        Path(settings["tls_certificate"]).write_text("x")
    else:
        (tmp_path / "other").mkdir()
        settings["tls_key"] = issue(tmp_path / "other")["tls_key"]
    with pytest.raises(ConfigError, match=r"server\.tls_certificate"):
        Tls(ServerConfig(**settings))  # type: ignore[arg-type]
