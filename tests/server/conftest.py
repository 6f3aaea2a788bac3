"""Another session that goes on, whatever happens beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from af3stream.engine.contract import Engine
from af3stream.protocol import messages as m
from af3stream.server.service import Service
from tests.server.peers import serving, talking
from tests.server.test_sessions import FRAMES, speak

Said = list[tuple[str, float, float]]


async def captions(service: Service) -> Said:
    """Another peer's whole session: the final captions it gets."""
    async with talking(service) as peer:
        await speak(peer)
        await peer.tell(m.End(FRAMES))
        await peer.until(m.Ended)
    return [(final.text, final.start, final.end) for final in peer.finals]


@pytest.fixture(scope="module")
def expected() -> Said:
    async def alone() -> Said:
        async with serving() as service:
            return await captions(service)

    return asyncio.run(alone())


@pytest.fixture
def undisturbed(expected: Said) -> Callable[..., Any]:
    """`undisturbed(...)`: a service, as `serving` makes it, on which another session goes on meanwhile."""

    @asynccontextmanager
    async def make(engine: Engine | None = None, **options: Any) -> AsyncIterator[Service]:
        async with serving(engine, **options) as service:
            other = asyncio.create_task(captions(service))
            yield service
            assert await other == expected

    return make
