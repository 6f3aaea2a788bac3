"""Run a real server, and real-time streams of speech."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from af3stream.client import connect
from af3stream.client.session import Session
from af3stream.engine.captioning import Samples
from af3stream.protocol.messages import Caption
from bench import common
from bench.common import RATE

BLOCK = RATE // 10
ASK_TOKENS = 48
STOP_S = 10.0
LISTENS = r"listens at (\S+)"  # in the log of our server
UNBOUNDED = (
    *("server.port=0", "server.max_sessions=64", "server.admit_busy=0", "server.admit_lag_s=3600"),
    "questions.max_waiting=64",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Times of one question, in seconds since the start of the stream.

    Attributes:
        first: time of the first words of the answer.
        done: time of the complete answer.
        tokens: tokens of the answer.
    """

    at: float
    first: float
    done: float
    tokens: int


@dataclass(slots=True)
class Heard:
    """Messages of one stream, with their times in seconds since the start of the stream."""

    captions: list[tuple[float, Caption]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @property
    def final_lags_s(self) -> list[float]:
        """Seconds from the end of each utterance to its final caption."""
        return [at - caption.end for at, caption in self.captions if caption.final]


def command(*settings: str) -> list[str]:
    """Return the command of a server without limits."""
    overrides = [word for item in (*common.SETTINGS, *UNBOUNDED, *settings) for word in ("--set", item)]
    return [sys.executable, "-m", "af3stream.cli", "serve", *overrides]


@asynccontextmanager
async def server(*settings: str) -> AsyncIterator[str]:
    """Run a server process without limits and without a journal, and yield its address."""
    async with process(command(*settings), LISTENS) as (_, url):
        yield url


@asynccontextmanager
async def process(
    command: Sequence[str], listens: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[int, str]]:
    """Run a server process, and yield its id and its address, which is the first group of ``listens`` in its log.

    Raises:
        RuntimeError: if it ends before it listens.
    """
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=env)
    assert process.stderr is not None
    logged: list[str] = []
    try:
        while not (found := re.search(listens, logged[-1] if logged else "")):
            if not (line := await process.stderr.readline()):
                raise RuntimeError("the server did not start:\n" + "".join(logged))
            logged.append(line.decode())
        draining = asyncio.create_task(_drain(process.stderr))  # a full pipe would block the server
        yield process.pid, found[1]
    finally:
        await _stop(process)
    await draining


async def device_s(url: str) -> float:
    """Return the seconds of device time of the server so far."""
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{url}/metrics").read().decode())
    found = re.search(r"^af3stream_device_seconds (\S+)", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def cpu_s(process: int) -> float:
    """Return the CPU seconds of a process so far: fields 14 and 15 of ``proc_pid_stat(5)``."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def stream(url: str, samples: Samples, *, interims: bool = True, question: str = "", every_s: float = 0) -> Heard:
    """Stream samples (n,) at 16 kHz in real time, and ask a question every ``every_s`` seconds."""
    heard = Heard()
    pcm = (samples * 32_767).astype("<i2")
    async with connect(url, interims=interims, reconnect_for=0) as session, asyncio.TaskGroup() as tasks:
        began = time.monotonic()
        reading = tasks.create_task(_read(session, heard, began))
        next_ask = every_s
        for at in range(0, len(pcm), BLOCK):
            spoken_s = min(at + BLOCK, len(pcm)) / RATE
            await asyncio.sleep(began + spoken_s - time.monotonic())
            await session.send(pcm[at : at + BLOCK].tobytes())
            if question and spoken_s >= next_ask:
                next_ask += every_s
                tasks.create_task(_ask(session, question, heard, began))
        await session.end()
        await reading
    return heard


def spoken(seconds: float, pause_s: float, index: int) -> Samples:
    """Return the audio of stream ``index``: the recordings, with a different start for each stream."""
    shift = round(index * 3.7 * RATE)
    return np.roll(common.speech(seconds, pause_s), -shift)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Stop the server; its shutdown is not measured."""
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _drain(pipe: asyncio.StreamReader) -> None:
    while await pipe.readline():
        pass


async def _read(session: Session, heard: Heard, began: float) -> None:
    async for message in session:
        if isinstance(message, Caption):
            heard.captions.append((time.monotonic() - began, message))


async def _ask(session: Session, question: str, heard: Heard, began: float) -> None:
    at, first = time.monotonic(), None
    answering = session.ask_stream(question, max_tokens=ASK_TOKENS)
    async for piece in answering:
        if piece and first is None:
            first = time.monotonic()
    answer, done = await answering.answer(), time.monotonic()
    heard.asked.append(Asked(at - began, (first or done) - began, done - began, answer.tokens))
