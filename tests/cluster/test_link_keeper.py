"""A gateway has one link to each engine that its cluster has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from af3stream.cluster import link_keeper
from af3stream.cluster.engine_address import EngineAddress
from af3stream.cluster.engine_link import LinkError, UnlikeEngine
from af3stream.cluster.link_keeper import LinkKeeper
from tests.cluster.scripted_links import ScriptedCluster, ScriptedLink

FIRST = EngineAddress("first", "a:1", "key", "all", 1)
RESTARTED = EngineAddress("first", "a:2", "another key", "all", 2)


class Link(ScriptedLink):
    closed = False

    async def disconnect(self) -> None:
        self.closed = True


class Keeping:
    """A keeper, and the links that it opened.

    Attributes:
        refusals: how attempts fail, from now on.
        attempts: how many there were.
    """

    def __init__(self) -> None:
        self.cluster = ScriptedCluster()
        self.links: list[tuple[EngineAddress, Link]] = []
        self.refusals: list[Exception] = []
        self.attempts = 0
        self.keeper = LinkKeeper(self.cluster, self._connect)

    async def _connect(self, engine: EngineAddress) -> Any:
        self.attempts += 1
        if self.refusals:
            raise self.refusals.pop()
        self.links.append((engine, Link()))
        return self.links[-1][1]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.001)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> Keeping:
    monkeypatch.setattr(link_keeper, "RECONNECT_S", (0.0,))
    return Keeping()


@pytest.mark.parametrize("error", [LinkError("nobody is there"), ZeroDivisionError("a mistake")])
async def test_lost_link_is_opened_again(keeping: Keeping, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    keeping.keeper.see([FIRST])
    await keeping.until(lambda: len(keeping.links) == 1)
    keeping.refusals = [error] * 3
    keeping.links[0][1].lose()
    await keeping.until(lambda: len(keeping.links) == 2)
    assert str(error) in caplog.text
    assert list(keeping.cluster.engines) == ["first"]
    await keeping.keeper.stop()
    assert [link.closed for _, link in keeping.links] == [False, True]


async def test_link_stays_while_the_cluster_does_not_name_its_engine(keeping: Keeping) -> None:
    keeping.keeper.see([FIRST])
    await keeping.until(lambda: len(keeping.links) == 1)
    for engines in ([], [FIRST]):
        keeping.keeper.see(engines)
        await keeping.settle()
    assert len(keeping.links) == 1
    assert list(keeping.cluster.engines) == ["first"]
    await keeping.keeper.stop()


async def test_engine_that_has_left_is_not_connected_again(keeping: Keeping) -> None:
    keeping.keeper.see([FIRST])
    await keeping.until(lambda: len(keeping.links) == 1)
    keeping.keeper.see([])
    keeping.links[0][1].lose()
    await keeping.settle()
    assert len(keeping.links) == 1
    assert keeping.cluster.engines == {}
    keeping.keeper.see([FIRST])
    await keeping.until(lambda: len(keeping.links) == 2)
    await keeping.keeper.stop()


async def test_engine_that_started_again_is_connected_at_its_new_address(keeping: Keeping) -> None:
    keeping.keeper.see([FIRST])
    await keeping.until(lambda: len(keeping.links) == 1)
    keeping.keeper.see([RESTARTED])
    await keeping.until(lambda: len(keeping.links) == 2)
    assert keeping.links[1][0] == RESTARTED
    assert list(keeping.cluster.engines) == ["first"]
    keeping.links[0][1].lose()  # it is noticed later that the old one is gone
    await keeping.settle()
    assert list(keeping.cluster.engines) == ["first"]
    await keeping.keeper.stop()


async def test_engine_that_differs_is_not_asked_again_soon(keeping: Keeping) -> None:
    keeping.refusals = [UnlikeEngine("another model")]
    keeping.keeper.see([FIRST])
    await keeping.settle()
    assert keeping.attempts == 1
    keeping.keeper.see([RESTARTED])
    await keeping.until(lambda: len(keeping.links) == 1)
    await keeping.keeper.stop()
