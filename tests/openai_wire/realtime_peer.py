"""A client of the Realtime API that speaks it by hand."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import soundfile
import soxr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from af3stream.engine.contract import Completion, Lookup
from af3stream.engine.scripted import ScriptedContext, ScriptedEngine
from af3stream.server.http import REALTIME_PATH
from af3stream.server.service import Service
from tests.openai_wire.test_rest import RECORDING

PATIENCE_S = 60.0  # a loaded machine
TRANSCRIPTION = "?intent=transcription"
Event = dict[str, Any]


class SlowEngine(ScriptedEngine):
    """Writes a word of an answer in 10 ms."""

    def context(self, embeddings: Lookup) -> ScriptedContext:
        return _SlowContext(self.counters, embeddings)


class _SlowContext(ScriptedContext):
    def answer(self, *args: Any, **kwargs: Any) -> Generator[str | Completion, None, None]:
        for piece in super().answer(*args, **kwargs):
            time.sleep(0.01)
            yield piece


def spoken(rate: int = 24_000, pause_s: float = 1.0) -> bytes:
    """A recorded sentence and a pause, 16-bit PCM."""
    samples, recorded = soundfile.read(RECORDING, dtype="float32")
    samples = soxr.resample(samples, recorded, rate)
    return np.rint(np.append(samples, np.zeros(int(pause_s * rate))) * 32_767).astype("<i2").tobytes()


class RealtimePeer:
    """A client's end of a connection. ``told`` is everything that arrived so far."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.told: list[Event] = []

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def update(self, **session: Any) -> Event:
        """Change settings; returns the session."""
        await self.say("session.update", session=session)
        return (await self.until("session.updated"))["session"]  # type: ignore[no-any-return]

    async def listen(self, **given: Any) -> Event:
        """Change settings of the audio input."""
        return await self.update(audio={"input": given})

    async def append(self, pcm: bytes, chunk: int = 4_800) -> None:
        for at in range(0, len(pcm), chunk):
            audio = base64.b64encode(pcm[at : at + chunk]).decode()
            await self.say("input_audio_buffer.append", audio=audio)

    async def ask(self, text: str, **response: Any) -> Event:
        """Ask in writing; returns the response that is done."""
        content = [{"type": "input_text", "text": text}]
        await self.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await self.say("response.create", response=response)
        return (await self.until("response.done"))["response"]  # type: ignore[no-any-return]

    async def next(self) -> Event:
        event: Event = json.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE_S))
        self.told.append(event)
        return event

    async def until(self, kind: str) -> Event:
        """Read on until an event of this type comes; the end of the name is enough."""
        while not (event := await self.next())["type"].endswith(kind):
            pass
        return event

    async def until_closed(self) -> int:
        """Read all that is left; returns the code that the server closed with."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "the connection was cut"
            return closed.rcvd.code

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.told if event["type"].endswith(kind)]

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.told]


@asynccontextmanager
async def realtime(
    service: Service, query: str = "", welcome: str = "session.created", **options: Any
) -> AsyncIterator[RealtimePeer]:
    """A connection whose first event has come."""
    url = f"ws://127.0.0.1:{service.port}{REALTIME_PATH}{query}"
    async with connect(url, compression=None, **options) as socket:
        peer = RealtimePeer(socket)
        assert (await peer.next())["type"] == welcome
        yield peer
