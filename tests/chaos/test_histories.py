"""Nothing is lost and nothing is told twice, whatever happens to the connections, the client and the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from tests.chaos.histories import History, histories, play
from tests.chaos.processes import Forks, forking

HISTORIES, STEPS = 24, 12


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with forking() as forked:
        yield forked


@pytest.mark.slow
@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories(1, STEPS))
def test_a_session_survives_its_history(
    history: History, forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asyncio.run(play(history, tmp_path_factory.mktemp("history"), forks))
