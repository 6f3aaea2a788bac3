"""Measure what the Realtime API costs the server, against protocol v1.

A server over the scripted engine, which costs next to nothing, hears the same minute of speech over each, in messages
of 50 ms. They take turns. The bench measures the server's CPU time a second of audio.
``python -m bench.realtime_cost [--quick]``
"""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from af3stream.config import Config, JournalConfig, ServerConfig
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine
from af3stream.protocol import messages as m
from af3stream.protocol.codec import MSGPACK, client_codec
from af3stream.server.http import REALTIME_PATH, STREAM_PATH
from af3stream.server.ports import free_port
from af3stream.server.service import Service
from bench.common import quick, report
from bench.http_servers import until_told

RATE: Final = 24_000
CHUNK: Final = RATE // 20  # sample frames a message
RECORDINGS: Final = Path(__file__).parent.parent / "tests" / "recordings"
PROTOCOL_V1, REALTIME = "protocol_v1", "realtime"


def speech(seconds: int) -> bytes:
    """Return recorded sentences over and over, 16-bit PCM at 24 kHz."""
    parts = [soundfile.read(path, dtype="float32") for path in sorted(RECORDINGS.glob("*.wav"))]
    once = np.concatenate([soxr.resample(samples, rate, RATE) for samples, rate in parts])
    samples = np.resize(once, seconds * RATE)
    pcm: bytes = np.rint(samples * 32_767).astype("<i2").tobytes()
    return pcm


async def over_protocol_v1(port: int, pcm: bytes) -> None:
    """Have audio heard over protocol v1."""
    codec = client_codec(MSGPACK)
    url = f"ws://127.0.0.1:{port}{STREAM_PATH}"
    async with connect(url, subprotocols=[Subprotocol(MSGPACK)], compression=None) as socket:
        await socket.send(codec.encode(m.Start(rate=RATE)))
        for at in range(0, len(pcm), 2 * CHUNK):
            await socket.send(codec.encode(m.Audio(at // 2, pcm[at : at + 2 * CHUNK])))
        await socket.send(codec.encode(m.End(len(pcm) // 2)))
        while not isinstance(codec.decode(await socket.recv()), m.Ended):
            pass


async def over_realtime(port: int, pcm: bytes) -> None:
    """Have audio heard over the Realtime API."""
    url = f"ws://127.0.0.1:{port}{REALTIME_PATH}?intent=transcription"
    async with connect(url, compression=None) as socket:
        for at in range(0, len(pcm), 2 * CHUNK):
            audio = base64.b64encode(pcm[at : at + 2 * CHUNK]).decode()
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        detection = {"audio": {"input": {"turn_detection": None}}}
        await socket.send(json.dumps({"type": "session.update", "session": detection}))
        while json.loads(await socket.recv())["type"] != "session.updated":
            pass


WAYS: Final = {PROTOCOL_V1: over_protocol_v1, REALTIME: over_realtime}


async def serve(port: int) -> None:
    """Serve until the parent closes standard input."""
    config = Config(ServerConfig(port=port, max_sessions=16), journal=JournalConfig(folder=""))
    async with Service(config, Loaded(ScriptedEngine(), "off", None)).listening():
        await until_told()


def measure(rounds: int, pcm: bytes) -> dict[str, list[float]]:
    """Return the server's CPU seconds for the audio, by way and round."""
    port = free_port()
    command = [sys.executable, "-c", f"import asyncio, bench.realtime_cost as b; asyncio.run(b.serve({port}))"]
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == "listening\n"

        def cpu_s() -> float:
            assert child.stdin and child.stdout
            child.stdin.write("\n")
            return float(child.stdout.readline())

        for _ in range(rounds + 1):
            for way, stream in WAYS.items():
                before = cpu_s()
                asyncio.run(stream(port, pcm))
                took[way].append(cpu_s() - before)
        child.stdin.close()
    return {way: each[1:] for way, each in took.items()}  # without the first round, which warms up


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench, and print the figures."""
    small = quick(__doc__, argv)
    rounds, seconds = (1, 10) if small else (7, 60)
    took = measure(rounds, speech(seconds))
    costs = {way: statistics.median(each) / seconds for way, each in took.items()}
    extra = costs[REALTIME] - costs[PROTOCOL_V1]
    report("realtime_cost", rounds=rounds, cpu_s_an_audio_second=costs, extra_cpu_s_an_audio_second=extra)


if __name__ == "__main__":
    main()
