"""The commands that run until they are told to stop: a server, a gateway, and the engines of a cluster."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import af3stream.engine  # noqa: F401 - it sets how threads wait, before NumPy and torch read that
from af3stream import __version__
from af3stream.config import Config
from af3stream.extras import require

if TYPE_CHECKING:
    from af3stream.cluster.placement import Role
    from af3stream.engine.factory import Loaded
    from af3stream.server.backend import Backend
    from af3stream.tracing import Tracing

Say = Callable[[str], None]


def serve(config: Config, say: Say) -> None:
    """Serve until Ctrl-C or SIGTERM, with an engine in this process.

    Raises:
        SetupError: if it cannot start.
    """
    say(f"starting a server with {config.model.name}")
    tracing = _prepare(config, "server")
    from af3stream.engine.factory import load_engine
    from af3stream.engine.memory import freeze_gc

    loaded = load_engine(config, say)
    freeze_gc()
    asyncio.run(_serve_embedded(config, loaded, tracing, say))
    if tracing:
        tracing.close()


def serve_gateway(config: Config, say: Say) -> None:
    """Serve until Ctrl-C or SIGTERM, with the engines of a cluster.

    Raises:
        SetupError: if it cannot start.
    """
    say(f"joining the cluster {config.engine.cluster}")
    tracing = _prepare(config, "gateway")
    asyncio.run(_serve_with_cluster(config, tracing, say))
    if tracing:
        tracing.close()


def run_engines(config: Config, *, count: int, role: Role, name: str, here: bool, say: Say) -> None:
    """Start engines in a cluster; at Ctrl-C or SIGTERM, drain and end them.

    Args:
        count: how many.
        name: begins their names; empty: the name of the host and the role.
        here: whether they run on this machine alone; otherwise, Ray chooses the machines.

    Raises:
        SetupError: if there is no cluster.
        EngineError: if an engine cannot be loaded.
    """
    say(f"joining the cluster {config.engine.cluster}")
    _log_to_stderr()
    from af3stream.cluster import ray_engine
    from af3stream.engine.factory import load_engine

    chosen = name or f"{socket.gethostname()}-{role}"
    ray_engine.run_engines(config, count=count, role=role, name=chosen, load=load_engine, say=say, here=here)


def _prepare(config: Config, role: str) -> Tracing | None:
    """Check the address, and return what makes the spans of this process, if they are wanted."""
    from af3stream.server.ports import check_address

    _log_to_stderr()
    check_address(config.server)  # before a model is loaded, which takes long
    if not config.tracing.endpoint:
        return None
    require("tracing")
    from af3stream.tracing import open_tracing

    return open_tracing(config.tracing, role)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("websockets").setLevel(logging.WARNING)


async def _serve_embedded(config: Config, loaded: Loaded, tracing: Tracing | None, say: Say) -> None:
    await _serve_until(_stopping(), config, loaded, tracing, say)


async def _serve_with_cluster(config: Config, tracing: Tracing | None, say: Say) -> None:
    from af3stream.server.cluster_backend import joined

    stop = _stopping()
    async with AsyncExitStack() as stack:
        joining = asyncio.create_task(stack.enter_async_context(joined(config)))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([joining, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if joining.done():
            await _serve_until(stop, config, await joining, tracing, say)
            return
        joining.cancel()
        await asyncio.wait([joining])


async def _serve_until(
    stop: asyncio.Event, config: Config, engine: Loaded | Backend, tracing: Tracing | None, say: Say
) -> None:
    from af3stream.server.service import Service

    async with Service(config, engine, tracing).listening() as service:
        facts = service.backend.facts
        print(f"af3stream {__version__} listens at {service.address}", file=sys.stderr)
        print(f"  model {facts.name}, captioner {facts.captioner.name}", file=sys.stderr)
        if facts.licence:
            print(f"  licence: {facts.licence}", file=sys.stderr)
        sys.stderr.flush()
        await stop.wait()
        say("finishing what is pending")


def _stopping() -> asyncio.Event:
    """Return an event that is set at Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    return stop
