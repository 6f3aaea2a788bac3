"""Measure the cost of HTTP on the WebSocket port, against plain `websockets.serve` and uvicorn's WebSockets.

Three servers acknowledge audio messages of 100 ms: plain websockets, websockets behind the service's HTTP, and
uvicorn's `websockets-sansio` under Starlette. They take turns. The bench measures the CPU time of the server and the
time of a round trip, and both for opening and closing a connection. ``python -m bench.http_cost [--quick]``
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from af3stream.protocol import messages as m
from af3stream.protocol.codec import MSGPACK, client_codec
from af3stream.server.http import STREAM_PATH
from af3stream.server.ports import free_port
from bench.common import p95, quick, report
from bench.http_servers import FRAMES, WAYS

PCM: Final = bytes(2 * FRAMES)


@dataclass
class Measured:
    """Figures of one server by round: CPU seconds and wall seconds of round trips and of connections."""

    cpu_s: list[float] = field(default_factory=list)
    round_trip_s: list[float] = field(default_factory=list)
    connection_cpu_s: list[float] = field(default_factory=list)
    connection_s: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Return medians, and the 95th percentile of round trips."""
        return {
            "cpu_s_a_round_trip": statistics.median(self.cpu_s),
            "round_trip_s": statistics.median(self.round_trip_s),
            "round_trip_p95_s": p95(self.round_trip_s),
            "cpu_s_a_connection": statistics.median(self.connection_cpu_s),
            "connection_s": statistics.median(self.connection_s),
        }


class Child:
    """A server in a process of its own."""

    def __init__(self, way: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "bench.http_servers", way, str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self._process.stdin and self._process.stdout
        self._told, self._said = self._process.stdin, self._process.stdout
        assert self._said.readline() == "listening\n"

    def cpu_s(self) -> float:
        """Return the CPU seconds of the server so far."""
        self._told.write("\n")
        return float(self._said.readline())

    def close(self) -> None:
        """Stop the server."""
        self._told.close()
        self._process.wait(timeout=30)
        self._said.close()

    def connect(self) -> connect:
        """Open a connection."""
        url = f"ws://127.0.0.1:{self.port}{STREAM_PATH}"
        return connect(url, subprotocols=[Subprotocol(MSGPACK)], compression=None)


async def stream(socket: ClientConnection, messages: int) -> list[float]:
    """Send audio, one message at a time, and return the seconds of each round trip."""
    codec = client_codec(MSGPACK)
    took = []
    for number in range(messages):
        began = time.perf_counter()
        await socket.send(codec.encode(m.Audio(number * FRAMES, PCM)))
        codec.decode(await socket.recv())
        took.append(time.perf_counter() - began)
    return took


async def measure(child: Child, measured: Measured, messages: int, connections: int) -> None:
    """Measure one round of one server."""
    async with child.connect() as socket:
        await stream(socket, messages // 10)
        before = child.cpu_s()
        measured.round_trip_s += await stream(socket, messages)
        measured.cpu_s.append((child.cpu_s() - before) / messages)
    before = child.cpu_s()
    for _ in range(connections):
        began = time.perf_counter()
        async with child.connect():
            measured.connection_s.append(time.perf_counter() - began)
    measured.connection_cpu_s.append((child.cpu_s() - before) / connections)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench, and print the figures."""
    small = quick(__doc__, argv)
    rounds, messages, connections = (1, 50, 5) if small else (12, 1_500, 50)
    measured = {way: Measured() for way in WAYS}
    with ExitStack() as ending:
        children = {way: Child(way) for way in WAYS}
        for child in children.values():
            ending.callback(child.close)
        for number in range(rounds):
            for way in WAYS[number % 3 :] + WAYS[: number % 3]:
                asyncio.run(measure(children[way], measured[way], messages, connections))
    report(
        "http_cost",
        rounds=rounds,
        round_trips=messages,
        **{way: each.figures() for way, each in measured.items()},
    )


if __name__ == "__main__":
    main()
