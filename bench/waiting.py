"""Measure how long the engine's OpenMP threads look for more work, against libgomp's default and against none at all.

One real-time stream each, on a real server: alone on the machine, then beside a busy process a core.
``python -m bench.waiting [--quick]``
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bench import live
from bench.common import quick, report, speech
from bench.live import command, cpu_s, device_s, process, stream

# What is in the environment of the server. Without it, the server looks 1,000 times.
WAYS: Final[dict[str, dict[str, str]]] = {
    "ours": {},
    "default": {"GOMP_SPINCOUNT": "300000"},  # libgomp takes 100 if there are more threads than cores
    "none": {"OMP_WAIT_POLICY": "passive"},
}
SECONDS, QUICK_S, WARM_S, PAUSE_S = 28.0, 6.0, 3.0, 0.8
BUSY: Final = "while True: pass"


def main(argv: list[str] | None = None) -> None:
    """Run the streams."""
    seconds = QUICK_S if quick(__doc__, argv) else SECONDS
    report("waiting", seconds=seconds, by_way={way: asyncio.run(measure(WAYS[way], seconds)) for way in WAYS})


async def measure(environment: dict[str, str], seconds: float) -> dict[str, dict[str, float]]:
    """Return the figures of a server, alone and beside busy processes."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    async with process(command(), live.LISTENS, inherited | environment) as (pid, url):
        await stream(url, speech(WARM_S))
        alone = await _figures(pid, url, seconds)
        with _busy():
            return {"alone": alone, "busy": await _figures(pid, url, seconds)}


async def _figures(pid: int, url: str, seconds: float) -> dict[str, Any]:
    device, cpu = await device_s(url), cpu_s(pid)
    heard = await stream(url, speech(seconds, PAUSE_S))
    lags = heard.final_lags_s
    return {
        "final_behind_mean_s": statistics.fmean(lags) if lags else None,
        "partial_captions": sum(not caption.final for _, caption in heard.captions),
        "device_s_a_second": (await device_s(url) - device) / seconds,
        "cpu_s_a_second": (cpu_s(pid) - cpu) / seconds,
    }


@contextmanager
def _busy() -> Iterator[None]:
    """Keep every core busy with another process."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


if __name__ == "__main__":
    main()
