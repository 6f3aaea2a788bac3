"""Every bench runs at its small size on a tiny checkpoint, and prints one JSON line last."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from bench import common, tables


@pytest.fixture
def tiny(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (
        f"model.name={tiny_folder}",
        "model.threads=1",
        "captions.captioner=af3",
        "captions.max_tokens=8",
    )
    monkeypatch.setattr(common, "SETTINGS", settings)


def printed(bench: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    importlib.import_module(f"bench.{bench}").main(["--quick"])
    figures: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["bench"] == bench
    return figures


@pytest.mark.usefixtures("tiny")
def test_floor_reads_all_weights_and_the_keys_and_values_of_a_window(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("floor", capsys)
    one = figures["by_windows"]["1"]
    assert one["mb_a_token"] > figures["weights_mb"] > 0
    assert one["share"] == pytest.approx(one["read_gb_a_second"] / one["memory_gb_a_second"], rel=1e-3)
    assert len(tables.lines("python -m bench.floor", figures)) == 2


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("bench", "rows"), [("encode", 4), ("append", 2), ("question", 8), ("weights", 3)])
def test_a_bench_prints_what_its_rows_need(bench: str, rows: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(tables.lines(f"python -m bench.{bench}", printed(bench, capsys))) == rows


@pytest.mark.usefixtures("tiny")
def test_rebuild_measures_answers_and_finals_with_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("rebuild", capsys)
    assert all(figures[key] > 0 for key in ("answer_s", "answer_beside_a_rebuild_s", "final_p95_s", "window_s"))
    assert len(tables.lines("python -m bench.rebuild", figures)) == 2


@pytest.mark.usefixtures("tiny")
def test_memory_accounts_for_every_byte(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("memory", capsys)
    peak = figures["peak_mb"]
    assert figures["windows"] >= 2
    assert all(peak[part] > 0 for part in ("kv", "embeddings", "audio", "rest"))
    parts = figures["weights_mb"] + sum(peak[part] for part in ("kv", "embeddings", "audio", "rest"))
    assert parts >= peak["all"] * 0.999  # each part's own peak
    assert list(figures["ttft_s_by_age_s"]) == ["20", "40", "60"]
    assert len(tables.lines("python -m bench.memory", figures)) == 3


@pytest.mark.mini
@pytest.mark.usefixtures("tiny")
def test_sessions_hears_every_stream_in_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("sessions", capsys)
    assert list(figures["streams"]) == ["1", "2"]
    assert all(g["finals"] >= int(n) and g["questions"] >= int(n) for n, g in figures["streams"].items())
    assert figures["captions_by_growing_buffer"]["1"]["final_lag_p95_s"] > 0
    assert figures["tokens_a_second_of_four"] > 0
    assert tables.lines("python -m bench.sessions", figures)


@pytest.mark.mini
@pytest.mark.usefixtures("tiny")
def test_captions_measures_a_live_stream_and_drafts(capsys: pytest.CaptureFixture[str]) -> None:
    figures = printed("captions", capsys)
    assert figures["af3"]["words_the_same"]
    assert figures["af3"]["passes_with_draft"] <= figures["af3"]["passes_without"]
    assert figures["live"]["interims"] > 0
    assert figures["live"]["speech_end_to_final_mean_s"] > 0
    assert tables.lines("python -m bench.captions", figures)
