"""Measure what a gateway and an engine in processes of their own cost, against one process, in one run.

The engine is scripted, so that only the way to it and back counts. Eight paced streams with questions run on one
server, then on a gateway and an engine that are connected by a link: the delay of final captions, the time to the first
token, and the CPU time of each process a second of audio. Then eight sessions of one engine are asked a question each,
right after it is killed, while another engine lives: the time until all are answered.
``python -m bench.cluster [--quick]``
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from af3stream.client import Session, connect
from bench.common import quick, report, speech
from bench.live import Heard, cpu_s, spoken, stream
from tests.chaos.processes import Forks, Process, Server, forking

PAUSE_S: Final = 0.8
QUESTION: Final = "What was said about the young man?"
MUST: Final = {"added_p50_ms": 15, "added_p99_ms": 60, "recovery_s": 10}


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench.

    Attributes:
        heard_s: audio of a session before its engine is killed.
    """

    streams: int = 8
    seconds: float = 61.0
    asked_every_s: float = 2.0
    heard_s: float = 120.0


QUICK: Final = Size(2, 5.5, 1.0, 10.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the figures."""
    size = QUICK if quick(__doc__, argv) else Size()
    with forking() as forks, tempfile.TemporaryDirectory() as folder:
        embedded, through = asyncio.run(both(forks, Path(folder), size))
        recovery = asyncio.run(recover(forks, Path(folder), size))
    added = {
        name: {f"added_p{rank}_ms": through[name][f"p{rank}_ms"] - embedded[name][f"p{rank}_ms"] for rank in (50, 99)}
        for name in ("final", "first_token")
    }
    report(
        "cluster",
        load_average=os.getloadavg()[0],
        streams=size.streams,
        seconds=size.seconds,
        one_process=embedded,
        gateway_and_engine=through,
        added=added,
        recovery=recovery,
        must=MUST,
    )


async def both(forks: Forks, folder: Path, size: Size) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of one process, and those of a gateway and an engine."""
    server = Server(folder / "one", forks)
    engine = Process(forks, {"kind": "engine"})
    async with AsyncExitStack() as stack:
        for process in (server, engine):
            await process.start()
            stack.push_async_callback(process.stop, signal.SIGTERM)
        gateway = await started_gateway(forks, folder / "two", [engine])
        stack.push_async_callback(gateway.stop, signal.SIGTERM)
        one = await measured({"server": server}, server, size)
        two = await measured({"gateway": gateway, "engine": engine}, gateway, size)
    return one, two


async def started_gateway(forks: Forks, folder: Path, engines: Sequence[Process]) -> Process:
    """Return a gateway that has links to these engines."""
    ports = [engine.port for engine in engines]
    gateway = Process(forks, {"kind": "gateway", "folder": str(folder), "engines": ports, "name": "bench"})
    await gateway.start()
    return gateway


async def measured(processes: dict[str, Process], server: Process, size: Size) -> dict[str, Any]:
    """Return the delays that streams on a server see, and the CPU time of processes a second of audio."""
    url = f"http://127.0.0.1:{server.port}"
    await stream(url, speech(2.5), question=QUESTION, every_s=1.0)  # warm up
    before = {name: cpu_s(process.id) for name, process in processes.items()}

    async def one(index: int) -> Heard:
        await asyncio.sleep(index / size.streams)
        return await stream(url, spoken(size.seconds, PAUSE_S, index), question=QUESTION, every_s=size.asked_every_s)

    heard = await asyncio.gather(*(one(index) for index in range(size.streams)))
    audio_s = size.streams * size.seconds
    costs = {name: (cpu_s(process.id) - before[name]) / audio_s for name, process in processes.items()}
    return {
        "final": ranks([lag for each in heard for lag in each.final_lags_s]),
        "first_token": ranks([asked.first - asked.at for each in heard for asked in each.asked]),
        "cpu_s_an_audio_second": costs,
        "streams_a_core": {name: 1 / cost for name, cost in costs.items()},
    }


def ranks(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile, in milliseconds."""
    return {
        "count": len(seconds),
        "p50_ms": float(np.percentile(seconds, 50)) * 1_000,
        "p99_ms": float(np.percentile(seconds, 99)) * 1_000,
    }


async def recover(forks: Forks, folder: Path, size: Size) -> dict[str, float]:
    """Return the seconds from the end of an engine until its sessions' questions are answered by another."""
    engines = [Process(forks, {"kind": "engine"}) for _ in range(2)]
    async with AsyncExitStack() as stack:
        await engines[0].start()
        await engines[1].start()
        for engine in engines:
            stack.push_async_callback(engine.stop, signal.SIGKILL)
        gateway = await started_gateway(forks, folder / "recovery", engines)
        stack.push_async_callback(gateway.stop, signal.SIGTERM)
        url = f"http://127.0.0.1:{gateway.port}"
        sessions = [await stack.enter_async_context(connect(url)) for _ in range(2 * size.streams)]
        await asyncio.gather(*(hear(session, size.heard_s) for session in sessions))
        killed_at = time.monotonic()
        await engines[0].stop(signal.SIGKILL)
        took = await asyncio.gather(*(answered_after(session, killed_at) for session in sessions))
        late = sorted(took)[-size.streams :]  # half of the sessions were at the engine that lives
        return {"sessions": size.streams, "all_answered_s": late[-1], "median_s": late[len(late) // 2]}


async def hear(session: Session, seconds: float) -> None:
    """Have a session hear speech, as fast as it is taken, and wait for its captions."""
    await session.send((speech(seconds) * 32_767).astype("<i2").tobytes())
    await session.flush()


async def answered_after(session: Session, moment: float) -> float:
    """Ask a question; return the seconds from a moment to the complete answer."""
    await session.ask(QUESTION)
    return time.monotonic() - moment


if __name__ == "__main__":
    main()
