"""Nothing is lost and nothing is told twice, whatever happens to gateways, engines and what connects them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from tests.chaos.cluster import STEPS, play
from tests.chaos.histories import History, cluster_histories
from tests.chaos.processes import Forks, forking

HISTORIES, LENGTH = 8, 12


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with forking() as forked:
        yield forked


@pytest.mark.slow
@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=cluster_histories(1, LENGTH, STEPS))
def test_a_session_of_a_cluster_survives_its_history(
    history: History, forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asyncio.run(play(history, tmp_path_factory.mktemp("history"), forks))
