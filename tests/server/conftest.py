"""Another session that goes on, and memory that stays bounded, whatever happens beside it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from af3stream.engine.contract import Engine
from af3stream.protocol import messages as m
from af3stream.server.service import Service
from tests.server.peers import serving, talking
from tests.server.test_sessions import FRAMES, speak

Said = list[tuple[str, float, float]]

BOUND_KB = 96 << 10  # server, clients and test together
PROC = Path("/proc/self")


async def captions(service: Service) -> Said:
    """Another peer's whole session: the final captions it gets."""
    tokens = service._config.server.tokens
    headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
    async with talking(service, additional_headers=headers) as peer:
        await speak(peer)
        await peer.tell(m.End(FRAMES))
        await peer.until(m.Ended)
    return [(final.text, final.start, final.end) for final in peer.finals]


@contextmanager
def bounded_memory() -> Iterator[None]:
    """The process never takes much more memory than it does now. Linux knows the peak, and can forget it."""

    def peak_kb() -> int:
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", (PROC / "status").read_text())
        return int(peak)

    try:
        (PROC / "clear_refs").write_text("5")
    except OSError:
        yield
        return
    before = peak_kb()
    yield
    assert peak_kb() - before < BOUND_KB


@pytest.fixture(scope="module")
def expected() -> Said:
    async def alone() -> Said:
        async with serving() as service:
            return await captions(service)

    return asyncio.run(alone())


@pytest.fixture
def undisturbed(expected: Said) -> Callable[..., Any]:
    """`undisturbed(...)`: a service, as `serving` makes it, on which another session goes on, within bounded memory."""

    @asynccontextmanager
    async def make(engine: Engine | None = None, **options: Any) -> AsyncIterator[Service]:
        async with serving(engine, **options) as service:
            with bounded_memory():
                other = asyncio.create_task(captions(service))
                yield service
                assert await other == expected

    return make
