"""Sources of a meeting: standard input, a broadcast that breaks off, and a silent Attendee."""

from __future__ import annotations

import asyncio
import io
import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from websockets.asyncio.client import connect

from af3stream.errors import SourceError
from af3stream_clients.meeting_bot import sources
from af3stream_clients.meeting_bot.attendee import Missing
from af3stream_clients.meeting_bot.sources import ResumePoint, open_source
from tests.clients.meeting_bot.environment import RATE, message, pcm, voice


async def test_standard_input_is_raw_samples_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(sources.sys, "stdin", SimpleNamespace(isatty=lambda: False, fileno=lambda: reading))
    sound = pcm(voice(1, 120))
    pieces = []
    async with open_source("-", ResumePoint(), 1.0) as source:
        for begin in range(0, len(sound), 4_001):
            os.write(writing, sound[begin : begin + 4_001])
        os.write(writing, b"\1")  # half a sample is dropped
        os.close(writing)
        async for piece in source.pieces:
            pieces.append(piece)
    os.close(reading)
    assert source.live and not source.timed
    assert b"".join(pieces) == sound


async def test_terminal_as_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(SourceError, match="standard input is a terminal"):
        async with open_source("-", ResumePoint(), 1.0):
            pass


def aac(seconds: float) -> bytes:
    """Return a tone as an AAC stream without a duration."""
    file = io.BytesIO()
    with av.open(file, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        samples = voice(seconds, 150).reshape(1, -1)
        for at in range(0, samples.shape[1], 1_024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, at : at + 1_024]), "fltp", "mono")
            frame.rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


async def test_broken_broadcast_is_reopened_with_a_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "random", lambda: 0.1)  # short waits
    sound, visits = aac(2), 0

    async def broadcast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        await reader.readuntil(b"\r\n\r\n")
        visits += 1
        if visits in (1, 3):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: audio/aac\r\nconnection: close\r\n\r\n" + sound)
        else:
            writer.write(b"HTTP/1.1 503 Later\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(broadcast, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/live"
        async with open_source(url, ResumePoint(), 2.0) as source:
            pieces = [piece async for piece in source.pieces]
    missing = [index for index, piece in enumerate(pieces) if isinstance(piece, Missing)]
    assert len(missing) == 1 and pieces[missing[0]].frames > 0
    for heard in (pieces[: missing[0]], pieces[missing[0] + 1 :]):
        assert abs(len(b"".join(heard)) / 2 / RATE - 2) < 0.2
    assert visits > 3  # and it stays unreachable


async def test_web_recording_is_read_once(tmp_path: Path) -> None:
    visits = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        await reader.readuntil(b"\r\n\r\n")
        visits += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: audio/aac\r\nconnection: close\r\n\r\n" + sound)
        await writer.drain()
        writer.close()

    sound = aac(60)  # faster than real time
    async with await asyncio.start_server(once, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/talk"
        async with open_source(url, ResumePoint(), 5.0) as source:
            pieces = [piece async for piece in source.pieces]
    assert visits == 1
    assert abs(len(b"".join(pieces)) / 2 / RATE - 60) < 0.2


async def test_timeline_continues_in_silence_without_attendee_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "QUIET_S", 0.1)
    heard = 0
    async with open_source("attendee://127.0.0.1:0/s3cret", ResumePoint(), 0.2) as source:
        async with connect(source.address, proxy=None) as socket:
            await socket.send(message(pcm(voice(1, 120)), 0))
            async for piece in source.pieces:
                assert isinstance(piece, bytes)
                heard += len(piece) // 2
                if heard > RATE:
                    break
        assert not any(piece[-2:])


async def test_busy_reader_does_not_count_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "QUIET_S", 2.0)

    async def speak(address: str) -> None:
        async with connect(address, proxy=None) as socket:
            await socket.send(message(pcm(voice(1, 120)), 0))
            await asyncio.sleep(2.0 + 2 * sources.POLL_S)
            await socket.send(message(pcm(voice(1, 120)), 1_000))

    async with open_source("attendee://127.0.0.1:0/s3cret", ResumePoint(), 0.2) as source:
        speaking = asyncio.create_task(speak(source.address))
        pieces = aiter(source.pieces)
        heard = len(await anext(pieces))
        await asyncio.sleep(2.0)
        heard += sum([len(piece) async for piece in pieces])
        await speaking
    assert heard == 2 * 2 * RATE
