"""Every bench runs at its small size on a tiny checkpoint, and prints one JSON line last.

Compiled code runs as it is written, and servers in this process: `tests/engine/test_fused.py` compiles, and one test
here starts the server that benches measure.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from af3stream.config import load
from af3stream.engine.factory import load_engine
from af3stream.server.service import Service
from bench import captions, common, http_servers, live, sessions, tables, waiting

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def tiny(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny checkpoint that captions for itself."""
    settings = (
        f"model.name={tiny_folder}",
        "model.threads=1",
        "captions.captioner=af3",
        "captions.max_tokens=8",
    )
    monkeypatch.setattr(common, "SETTINGS", settings)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


@asynccontextmanager
async def served_here(*settings: str) -> AsyncIterator[str]:
    """As `bench.live.server`, in this process."""
    config = load(overrides=(*common.SETTINGS, *live.UNBOUNDED, "journal.folder=", *settings))
    async with Service(config, load_engine(config)).listening() as service:
        yield service.address


def printed(bench: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    importlib.import_module(f"bench.{bench}").main(["--quick"])
    figures: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["bench"] == bench
    return figures


def test_floor_reads_all_weights_and_the_keys_and_values_of_a_window(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("floor", capsys)
    one = figures["by_windows"]["1"]
    assert one["mb_a_token"] > figures["weights_mb"] > 0
    assert one["share"] == pytest.approx(one["read_gb_a_second"] / one["memory_gb_a_second"], rel=1e-3)
    assert len(tables.lines("python -m bench.floor", figures)) == 2


@pytest.mark.parametrize(("bench", "rows"), [("encode", 4), ("append", 2), ("question", 8), ("weights", 3)])
def test_a_bench_prints_what_its_rows_need(bench: str, rows: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(tables.lines(f"python -m bench.{bench}", printed(bench, capsys))) == rows


def test_rebuild_measures_answers_and_finals_with_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("rebuild", capsys)
    assert all(figures[key] > 0 for key in ("answer_s", "answer_beside_a_rebuild_s", "final_p95_s", "window_s"))
    assert len(tables.lines("python -m bench.rebuild", figures)) == 2


def test_memory_accounts_for_every_byte(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("memory", capsys)
    peak = figures["peak_mb"]
    assert figures["windows"] >= 2
    assert all(peak[part] > 0 for part in ("kv", "embeddings", "audio", "rest"))
    parts = figures["weights_mb"] + sum(peak[part] for part in ("kv", "embeddings", "audio", "rest"))
    assert parts >= peak["all"] * 0.999  # each part's own peak
    assert list(figures["ttft_s_by_age_s"]) == ["20", "40", "60"]
    assert len(tables.lines("python -m bench.memory", figures)) == 3


def test_sessions_hears_every_stream_in_both_ways(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams at the pace of speech, because the bench measures how late captions are."""
    monkeypatch.setattr(sessions, "server", served_here)
    figures = printed("sessions", capsys)
    assert list(figures["streams"]) == ["1", "2"]
    assert all(g["finals"] >= int(n) and g["questions"] >= int(n) for n, g in figures["streams"].items())
    assert figures["captions_by_growing_buffer"]["1"]["final_lag_p95_s"] > 0
    assert figures["tokens_a_second_of_four"] > 0
    assert tables.lines("python -m bench.sessions", figures)


def test_captions_measures_a_live_stream_and_drafts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams at the pace of speech, because interim captions only come while audio is still arriving."""
    monkeypatch.setattr(captions, "server", served_here)
    figures = printed("captions", capsys)
    assert figures["af3"]["words_the_same"]
    assert figures["af3"]["passes_with_draft"] <= figures["af3"]["passes_without"]
    assert figures["live"]["interims"] > 0
    assert figures["live"]["speech_end_to_final_mean_s"] > 0
    assert tables.lines("python -m bench.captions", figures)


def test_http_cost_measures_sockets_beside_http_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("http_cost", capsys)
    assert all(value > 0 for way in http_servers.WAYS for value in figures[way].values())
    assert len(tables.lines("python -m bench.http_cost", figures)) == 4


def test_lease_cost_measures_commits_and_takeovers(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("lease_cost", capsys)
    assert all(value > 0 for part in ("commit_s", "takeover_s") for value in figures[part].values())
    assert len(tables.lines("python -m bench.lease_cost", figures)) == 4


def test_realtime_cost_measures_both_wires_and_the_api_costs_little_more(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("realtime_cost", capsys)
    assert all(cost > 0 for cost in figures["cpu_s_an_audio_second"].values())
    assert figures["extra_cpu_s_an_audio_second"] < 0.02


async def test_the_server_that_is_measured_is_a_process_with_the_settings_of_the_bench(tiny_folder: Path) -> None:
    async with live.server("server.max_sessions=63") as url:
        health = json.load(await asyncio.to_thread(urllib.request.urlopen, f"{url}/healthz"))
    assert (health["status"], health["model"]) == ("ok", tiny_folder.name)
    with pytest.raises(OSError):
        await asyncio.to_thread(urllib.request.urlopen, f"{url}/healthz")


def test_commits_measures_one_session_and_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(seconds > 0 for seconds in printed("commits", capsys)["commit_s"].values())


def test_eight_streams_records_the_steps_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    steps = printed("eight_streams", capsys)["steps"]
    assert steps["final"]["count"] > 0
    assert sum(steps["token"].values()) > 0


@pytest.mark.long
def test_waiting_measures_a_server_alone_and_beside_busy_processes(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("waiting", capsys)
    for way in waiting.WAYS:
        assert all(figures["by_way"][way][place]["cpu_s_a_second"] > 0 for place in ("alone", "busy"))
    assert len(tables.lines("python -m bench.waiting", figures)) == 4


def test_cluster_measures_a_gateway_and_an_engine_against_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("cluster", capsys)
    for way in ("one_process", "gateway_and_engine"):
        assert figures[way]["final"]["count"] > 0
        assert figures[way]["first_token"]["count"] >= figures["streams"]
    assert all(cost > 0 for cost in figures["gateway_and_engine"]["cpu_s_an_audio_second"].values())
    assert 0 < figures["recovery"]["all_answered_s"] < figures["must"]["recovery_s"]
    assert len(tables.lines("python -m bench.cluster", figures)) == 4
