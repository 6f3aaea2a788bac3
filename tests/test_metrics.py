"""The metrics of engines: one set for each engine that the process knows."""

from __future__ import annotations

import pytest

from af3stream.metrics import Metrics

LOAD = {"sessions": 2, "kv_bytes": 300, "embedding_bytes": 40, "device_s": 1.5}


@pytest.fixture
def metrics() -> Metrics:
    found = Metrics()
    for engine in ("a", "b"):
        found.engines.note(engine, **LOAD)
    return found


def series(metrics: Metrics, engine: str) -> dict[str, float]:
    """The series of an engine."""
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    return {
        sample.name.removeprefix("af3stream_engine_"): sample.value
        for sample in samples
        if sample.labels.get("engine") == engine
    }


def test_an_engine_has_what_it_reported_last(metrics: Metrics) -> None:
    metrics.engines.note("a", **{**LOAD, "sessions": 3})
    expected = {"up": 1, "sessions": 3, "kv_bytes": 300, "embedding_bytes": 40, "device_seconds": 1.5}
    assert series(metrics, "a") == expected


def test_a_lost_engine_is_down_and_one_that_comes_back_is_up(metrics: Metrics) -> None:
    metrics.engines.lost("a")
    assert (series(metrics, "a")["up"], series(metrics, "b")["up"]) == (0, 1)
    metrics.engines.note("a", **LOAD)
    assert series(metrics, "a")["up"] == 1


def test_an_engine_that_has_left_has_no_series(metrics: Metrics) -> None:
    metrics.engines.lost("c")
    for engine in ("a", "c", "never seen"):
        metrics.engines.forget(engine)
        assert series(metrics, engine) == {}
    assert series(metrics, "b")["up"] == 1
