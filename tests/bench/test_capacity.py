"""The simulation agrees with queueing theory and with the measured run, and says what saturates first."""

from __future__ import annotations

import json
import random
import statistics
from typing import Any

import pytest

from bench import capacity, tables
from bench.simulation import Asking, Line, ServiceTimes, Talk, conversation, run_engine, waits

TIMES = ServiceTimes(
    final=Line(0.0, 0.1),
    interim=None,
    revise=None,
    encode=Line(0.0, 0.0),
    extend=Line(0.0, 0.0),
    answer=Line(0.5, 0.0),
    token=Line(0.04, 0.01),
    chunk=128,
    frames_s=0.0,
    tokens_s=4.0,
)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_arrivals_wait_as_long_as_in_an_m_d_1_queue(load: float) -> None:
    """The mean wait of Poisson arrivals at one server of constant time (Pollaczek and Khinchine)."""
    service = 0.01
    waited = waits(load / service, lambda: service, 1, 15_000, random.Random(1))
    assert statistics.fmean(waited) == pytest.approx(load * service / (2 * (1 - load)), rel=0.1)


def test_arrivals_wait_as_long_as_in_an_m_m_1_queue() -> None:
    rng = random.Random(2)
    waited = waits(50.0, lambda: rng.expovariate(100.0), 1, 15_000, rng)
    assert statistics.fmean(waited) == pytest.approx(0.5 / (100 - 50), rel=0.1)


def test_a_lone_stream_waits_for_its_own_steps_and_the_end_of_the_pause() -> None:
    talk = Talk(20.0, ((0.0, 5.0), (6.0, 16.0)), (), (18.0,))
    outcome = run_engine(TIMES, [talk], Asking(400, (11,)), apart_s=1.0)
    assert outcome.lags_s == pytest.approx([0.51, 1.01])  # the second caption takes longer than the pause
    assert outcome.first_s == pytest.approx([0.5 + 0.05])  # the words of an answer begin with its second token
    assert outcome.answers[0][1] - outcome.answers[0][0] == pytest.approx(9 * 0.05)


def test_answers_of_several_sessions_are_decoded_in_one_batch() -> None:
    talks = [Talk(1.0, (), (), (0.5,)) for _ in range(4)]
    outcome = run_engine(TIMES, talks, Asking(400, (101,)), apart_s=0.0)
    together = max(done for _, done, _ in outcome.answers) - min(first for first, _, _ in outcome.answers)
    assert together < 0.5 * 4 * 100 * 0.05  # one after another


def test_a_stream_is_as_long_and_as_dense_as_it_is_made() -> None:
    talk = conversation(3_600.0, (4.0, 6.0), 1.0, 60.0, random.Random(3), 15.0)
    assert sum(end - start for start, end in talk.utterances) == pytest.approx(3_600 * 5 / 6, rel=0.02)
    assert len(talk.questions) == pytest.approx(60, rel=0.4)
    assert all(end - start >= 15.0 for start, end, _ in talk.windows)


def test_the_simulation_reproduces_the_measured_run_of_eight_streams() -> None:
    figures = capacity.eight_streams()
    ratios = {name: figure["ratio"] for name, figure in figures["by_figure"].items()}
    assert ratios == {name: pytest.approx(1.0, abs=0.2) for name in ratios}


def test_every_figure_names_its_source_and_how_it_is_known() -> None:
    for section in capacity.sections().values():
        for figure in section.values():
            assert figure["mark"] in ("measured", "arithmetic", "published", "assumed")
            assert figure["source"]
    assert capacity.measured_streams()["machine"] and capacity.measured_streams()["date"]


def test_the_bench_prints_engines_clusters_and_what_saturates(capsys: pytest.CaptureFixture[str]) -> None:
    capacity.main(["--quick"])
    figures: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["bench"] == "capacity"
    assert len(tables.lines("python -m bench.capacity", figures)) == 1
    for name, engine in figures["engines"].items():
        assert engine["streams"] >= 1
        cluster = figures["clusters"][name]["1000"]
        assert cluster["engines"] * engine["streams"] >= 1_000
        assert cluster["dollars_a_thousand_hours"]["all"] > 0
