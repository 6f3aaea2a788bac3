"""Logs say what happens, and to which session; never what was said, nor what opens a door."""

from __future__ import annotations

import asyncio
import base64
import errno
import logging
import re
from pathlib import Path

import pytest

from af3stream.config import ModelConfig
from af3stream.protocol import messages as m
from af3stream.protocol.codec import JSON, SUBPROTOCOLS
from af3stream.server.service import Service
from tests.journal.scenes import failing
from tests.server.peers import PATIENCE_S, connected, get, serving, settled, still_there, talking
from tests.server.test_admission import UPGRADE
from tests.server.test_faults import Hanging
from tests.server.test_sessions import FRAMES, RATE, SPEECH, speak

TOKEN, WRONG, QUESTION, WATCH, NONSENSE = "sesame-open", "sesame-shut", "Where is the treasure?", "Gold?", "mumble"
HEADERS = {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}}


TORN = [
    f"GET /v1/stream?token={TOKEN}",
    f"GET /v1/stream?token={TOKEN} HTTP/1.0",
    f"GET /v1/stream?token={TOKEN} HTTP/1.1\r\nAuthorization: Bearer \1{TOKEN}",
    f"GET /v1/stream HTTP/1.1\r\nAuthorization Bearer {TOKEN}",
    f"POST /v1/stream?token={TOKEN} HTTP/1.1\r\nContent-Length: 5\r\n\r\n{TOKEN}",
]  # requests that are none


async def knock(service: Service, request: str) -> None:
    """Send what is no request, and wait until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(f"{request}\r\n\r\n".encode())
    await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()


async def conversation(folder: Path, subprotocol: str) -> tuple[str, list[m.ServerMessage]]:
    """All that can happen to a session: its id, and what was told in it."""
    said: list[m.ServerMessage] = []
    async with serving(Hanging(), model=ModelConfig(step_timeout_s=0.3), journal=folder, tokens=(TOKEN,)) as service:
        await get(service, f"/v1/stream?token={WRONG}", f"{UPGRADE}Authorization: Bearer {WRONG}\r\n")
        for torn in TORN:
            await knock(service, torn)
        async with talking(service, None, subprotocol, **HEADERS) as peer:
            await peer.tell(m.Watch("w", WATCH, every_s=1.0))
            with failing("audio-written", OSError(errno.EIO, "no")):
                await speak(peer, SPEECH[: 4 * RATE])
                await still_there(peer)
            await speak(peer, SPEECH[4 * RATE :], at=2 * RATE)
            await peer.tell(m.Ask("q", QUESTION))
            await peer.until(m.Answer)
            await peer.tell(m.Ask("hangs", "Hang"))
            await peer.socket.send(NONSENSE if subprotocol == JSON else NONSENSE.encode())
            await peer.tell(m.Audio(-1, b"\0\0"), m.Ask("q2", "\u202e"), m.Unwatch("w"))
            while not any(error.code == "engine_timeout" for error in peer.of(m.Error)):
                await peer.hear()
            (ready,) = peer.of(m.Ready)
            async with talking(service, m.Start(resume=ready.resume), subprotocol, **HEADERS) as newer:
                await peer.until_closed()
                newer.socket.transport.abort()
        await settled(service)
        async with connected(service, subprotocol, **HEADERS) as thief:
            await thief.tell(m.Start(resume=WRONG))
            await thief.until_closed()
        async with talking(service, m.Start(resume=newer.of(m.Ready)[0].resume), subprotocol, **HEADERS) as last:
            await last.tell(m.End(FRAMES))
            await last.until(m.Ended)
            await last.until_closed()
        await settled(service)
        for each in (peer, newer, thief, last):
            said += each.said
    return ready.session, said


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
async def test_a_whole_conversation(subprotocol: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "websockets.client")
    caplog.set_level(logging.DEBUG)  # the level of the handler, too
    session, said = await conversation(tmp_path, subprotocol)
    lines = [f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records]
    words = {word for message in said for word in getattr(message, "text", "").split() if len(word) > 3}
    tokens = {message.resume for message in said if isinstance(message, m.Ready)}
    audio = {base64.b64encode(SPEECH[:48]).decode(), repr(SPEECH[:8])[2:-1]}
    assert len(tokens) == 3 and {"word1", "<-"} & words and '"pcm"' not in words
    for secret in {TOKEN, WRONG, QUESTION, WATCH, NONSENSE, "treasure", "Hang", '"pcm"', *tokens, *words, *audio}:
        assert not [line for line in lines if secret in line], "a secret is in the logs"

    ours = re.compile(r"af3stream\.(server\.session|server\.conn|engine|journal)")
    happened = [record.getMessage() for record in caplog.records if ours.match(record.name)]
    assert all(f"session={session} " in f"{line} " or "session=- code=no_session" in line for line in happened)
    for what in (
        "opened",
        "resumed",
        "closed",
        "hangs",
        "code=superseded",
        "code=no_session",
        "cannot write",
        "not stored",
    ):
        assert any(what in line for line in happened), what
    assert any("not admitted: status=401" in line for line in lines)
