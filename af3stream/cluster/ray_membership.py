"""Tell a gateway which engines the cluster has.

Ray ends a process that cannot reach the cluster's head for long. So the gateway is not in the cluster itself: it starts
a **watcher**, a process that looks for engines and prints what it finds. If the watcher ends, it is started again; in
the meantime, the gateway goes on with the engines that it knows.

The watcher prints a line of JSON each time the engines change, and every few seconds. If it prints none for long, it is
killed and started again. It ends by itself if an engine does not answer for long. A line has the keys of engines, and
is never logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Container
from contextlib import suppress
from typing import Any, Final

import msgspec

from af3stream.cluster.engine_address import EngineAddress
from af3stream.cluster.ray_engine import connect, engine_names
from af3stream.errors import SetupError

log = logging.getLogger(__name__)

COMMAND: Final = (sys.executable, "-m", __name__)
LOOK_EVERY_S: Final = 0.5
DESCRIBE_S: Final = 2.0  # how long an engine may take to say its address; one that loads a model takes longer
RESTART_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)  # before the watcher is started again, after so many failures in a row
LINE_BYTES: Final = 1 << 20
# After the head was lost, a process may know an engine as it was before, and never anew. So another process is better
# after so long without an answer, from an engine that has answered before, and from one that may load a model.
STALE_S, LOADING_S = 10.0, 60.0
TELL_EVERY_S: Final = 5.0
SILENT_S: Final = (
    30.0  # a watcher that tells nothing for this time hangs: its calls to a head that was lost may not end
)

Seen = Callable[[list[EngineAddress]], None]


async def watch(cluster: str, seen: Seen) -> None:
    """Report the engines of a cluster each time they change, until cancelled.

    Args:
        cluster: ``host:port`` of the head, or ``auto``.
        seen: called with all engines.
    """
    failures = 0

    def take(engines: list[EngineAddress]) -> None:
        nonlocal failures
        failures = 0
        seen(engines)

    while True:
        try:
            await _run_watcher(cluster, take)
        except TimeoutError:
            log.warning("the cluster's watcher tells nothing")
        except msgspec.DecodeError as error:
            log.warning("the cluster's watcher tells what is no list of engines: %s", error)
        except Exception as error:  # noqa: BLE001 - whatever fails costs this watcher, never the next one
            log.warning("the cluster's watcher failed: error=%s", type(error).__name__)
        wait_s = RESTART_S[min(failures, len(RESTART_S) - 1)]
        log.warning("the cluster's watcher ended, another one starts: in_s=%g", wait_s)
        failures += 1
        await asyncio.sleep(wait_s)


async def _run_watcher(cluster: str, seen: Seen) -> None:
    """Run a watcher until it ends.

    Raises:
        OSError: if it cannot be started.
        TimeoutError: if it tells nothing for long.
        ValueError: if a line is too long.
        msgspec.DecodeError: if a line is no list of engines.
    """
    watcher = await asyncio.create_subprocess_exec(
        *COMMAND,
        cluster,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        start_new_session=True,  # Ctrl-C is for the gateway
    )
    assert watcher.stdin and watcher.stdout
    try:
        while line := await _line(watcher.stdout):
            seen(msgspec.json.decode(line, type=list[EngineAddress]))
    finally:
        with suppress(ProcessLookupError):
            watcher.kill()
        watcher.stdin.close()
        ending = asyncio.ensure_future(watcher.wait())
        try:
            await asyncio.shield(ending)
        finally:  # also if this is cancelled meanwhile: the process was killed, and ends soon
            log.info("a watcher of the cluster is gone: code=%d", await ending)


async def _line(lines: asyncio.StreamReader) -> bytes:
    """Return the next line.

    Raises:
        TimeoutError: if there is none for long.
    """
    async with asyncio.timeout(SILENT_S):
        return await lines.readline()


def main() -> None:
    """Look for engines until standard input ends: its other end is the gateway."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Ray prints to standard output, too
    try:
        connect(sys.argv[1])
    except SetupError as error:
        sys.exit(f"af3stream: {error}")
    known: dict[str, EngineAddress] = {}
    told: list[EngineAddress] | None = None
    told_at = 0.0
    silence = Silence()
    while True:
        known, silent = look(known)
        if silence.take(silent, known, time.monotonic()):
            os._exit(0)  # another watcher, which joins the cluster anew, knows better
        now = sorted(known.values(), key=lambda engine: engine.name)
        if told != now or time.monotonic() > told_at + TELL_EVERY_S:
            told, told_at = now, time.monotonic()
            lines.write(msgspec.json.encode(told) + b"\n")
            lines.flush()
        time.sleep(LOOK_EVERY_S)


class Silence:
    """Since when engines do not answer, in clock seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def take(self, silent: Collection[str], known: Container[str], now: float) -> bool:
        """Take the names of the engines that do not answer now; returns whether one has not for too long.

        Args:
            known: names of engines that have answered before.
        """
        self._since = {name: self._since.get(name, now) for name in silent}
        return any(now > since + (STALE_S if name in known else LOADING_S) for name, since in self._since.items())


def look(known: dict[str, EngineAddress]) -> tuple[dict[str, EngineAddress], set[str]]:
    """Return the engines of the cluster by name, and the names of those that do not answer.

    One that does not answer now is as it was.
    """
    import ray

    names = engine_names()
    asked: dict[Any, str] = {}
    for name in names:
        with suppress(ValueError):  # it has left since
            asked[ray.get_actor(name).describe.remote()] = name
    ready, _ = ray.wait([*asked], num_returns=len(asked), timeout=DESCRIBE_S) if asked else ([], [])
    found = {}
    for reference in ready:
        with suppress(ray.exceptions.RayError):  # it is about to start
            found[asked[reference]] = EngineAddress(**ray.get(reference))
    there = {name: found.get(name) or known[name] for name in names if name in found or name in known}
    return there, {*names} - found.keys()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
