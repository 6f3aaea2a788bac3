"""Environment of the bot: a service with a scripted engine, an Attendee client, and an HTTP receiver."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from af3stream.config import Config, JournalConfig, ServerConfig
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine
from af3stream.server.service import Service
from af3stream_clients.meeting_bot.bot import Bot

RATE = 16_000


@asynccontextmanager
async def serving(folder: Path, port: int = 0) -> AsyncIterator[str]:
    """Run the service with its journal in a folder; the same folder and port again are a restart."""
    config = Config(ServerConfig(port=port, drain_s=1.0), journal=JournalConfig(folder=str(folder)))
    async with Service(config, Loaded(ScriptedEngine(), "off", None)).listening() as service:
        yield service.address


def voice(seconds: float, pitch: float) -> np.ndarray:
    """Return bursts that the voice detector takes for speech, (n,) float32."""
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 8))
    return (0.15 * tone * (1 + np.sin(2 * np.pi * 4 * t))).astype(np.float32)


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes()


def message(
    sound: bytes,
    at_ms: int,
    *,
    who: str | None = None,
    sequence: int = 1,
    rate: int = RATE,
    bot: str = "bot_12345abcdef",
    **more: str,
) -> str:
    """Build a message as in Attendee's documentation."""
    data = {"chunk": base64.b64encode(sound).decode(), "sample_rate": rate, "timestamp_ms": at_ms, "sequence": sequence}
    trigger = "realtime_audio.mixed"
    if who is not None:
        trigger = "realtime_audio.per_participant"
        data["participant_uuid"] = who
    return json.dumps({"bot_id": bot, "trigger": trigger, "data": data | more})


async def attend(
    url: str, parts: list[tuple[str | None, float, np.ndarray]], origin_ms: int = 1_703_123_456_789
) -> None:
    """Connect to the bot, and send the participants' audio in messages of 100 ms, in the order of time."""
    chunk = RATE // 10
    messages: list[tuple[int, str]] = []
    sequences: Counter[str | None] = Counter()
    for who, begin_s, samples in parts:
        for at in range(0, len(samples), chunk):
            sequences[who] += 1
            at_ms = origin_ms + round(begin_s * 1_000) + at * 1_000 // RATE
            messages.append((at_ms, message(pcm(samples[at : at + chunk]), at_ms, who=who, sequence=sequences[who])))
    async with connect(url, proxy=None) as socket:
        for _, text in sorted(messages, key=lambda timed: timed[0]):
            await socket.send(text)


async def listening(bot: Bot) -> str:
    """Wait until the bot listens for Attendee, and return its URL."""
    async with asyncio.timeout(60):
        while not bot.address:  # noqa: ASYNC110 - the bot has no event for it
            await asyncio.sleep(0.01)
    return bot.address


@dataclass
class Received:
    """A request: its headers, in lower case, and its body."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, object]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server with scripted answers: a status with headers; ``None`` never answers."""

    answers: list[tuple[int, dict[str, str]] | None] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    url: str = ""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def has(self, enough: Callable[[list[Received]], bool]) -> None:
        """Wait until the received requests satisfy a condition."""
        async with asyncio.timeout(120), self.changed:
            await self.changed.wait_for(lambda: enough(self.received))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")[1:-2]
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                async with self.changed:
                    self.received.append(Received(headers, body))
                    self.changed.notify_all()
                answer = self.answers.pop(0) if self.answers else (204, {})
                if answer is None:
                    await reader.read()  # until the client disconnects
                    return
                extra = "".join(f"{k}: {v}\r\n" for k, v in answer[1].items())
                writer.write(f"HTTP/1.1 {answer[0]} X\r\ncontent-length: 0\r\n{extra}\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(*answers: tuple[int, dict[str, str]] | None) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(answers))
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield receiver
