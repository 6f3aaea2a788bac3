"""The check for a GPU runs on a CPU with a tiny checkpoint, row by row, and its script only prepares it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from af3stream.config import ModelConfig
from bench import gpu_check
from bench.gpu_check import Check, Row, Size
from tests.test_ci import ROOT

SCRIPT = ROOT / "scripts" / "gpu_check.sh"
ON_CPU = ("--quick", "--device", "cpu", "--dtype", "float32")


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code runs as it is written: `tests/engine/test_fused.py` compiles."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line["bench"] == "gpu_check" for line in lines)
    rows = {line.pop("row"): line for line in lines}
    assert len(rows) == len(lines)
    return rows


def numbers(value: Any) -> list[float]:
    """All numbers of a row."""
    if isinstance(value, dict | list):
        return [number for item in (value.values() if isinstance(value, dict) else value) for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


def test_every_row_has_figures_and_answers_are_those_of_generate(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(ON_CPU) == 0
    rows = printed(capsys)
    assert [name for name, row in rows.items() if "skipped" in row] == ["decode_cuda_graphs"]
    assert rows["tests"].pop("only_for_a_cpu") == 0
    measured = {name: row for name, row in rows.items() if "skipped" not in row}
    assert all(number > 0 for row in measured.values() for number in numbers(row))
    assert {name: row["same_as_generate"] for name, row in rows.items() if name.startswith("first_token")} == {
        "first_token_1": True,
        "first_token_2": True,
    }
    for name in ("decode_1", "decode_2", "decode_compiled_1", "decode_compiled_2", "sessions_1", "sessions_4"):
        assert rows[name]["tokens_a_second"] > 0
    for part in ("encoder_mb", "language_model_mb", "kv_slot_mb", "kv_window_mb", "embeddings_window_mb"):
        assert rows["memory"][part] > 0
    assert rows["tests"]["passed"] > 0
    assert len(rows["append"]["seconds"]) == len(rows["append"]["transformers_seconds"]) == 2


def test_the_full_size_names_the_rows_that_a_gpu_is_to_print() -> None:
    names = [row.name for row in Check(ModelConfig(), Size()).rows()]
    assert [name for name in names if name.startswith("first_token")] == [f"first_token_{n}" for n in (1, 10, 20)]
    assert [name for name in names if name.startswith("sessions")] == [f"sessions_{n}" for n in (1, 4, 16, 64)]


def test_a_row_that_may_not_fit_is_skipped_and_one_that_takes_too_long_is_stopped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def forever() -> dict[str, Any]:
        while True:
            pass

    rows = [Row("long", 0.1, forever), Row("large", 1_000, forever), Row("small", 1, lambda: {"figure": 7})]
    assert gpu_check.run(rows, time.monotonic() + 500) == 0
    said = printed(capsys)
    assert said["long"]["skipped"] == "took longer than its share, 0.1 s"
    assert said["large"]["skipped"].startswith("may take 1000 s, ")
    assert said["small"]["figure"] == 7


def test_a_row_that_fails_says_why_and_costs_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> dict[str, Any]:
        raise torch.OutOfMemoryError("no memory\nand much more")

    assert gpu_check.run([Row("a", 1, fails), Row("b", 1, lambda: {"figure": 7})], time.monotonic() + 9) == 1
    said = printed(capsys)
    assert said["a"]["failed"] == "OutOfMemoryError: no memory"
    assert said["b"]["figure"] == 7


def test_rows_without_a_checkpoint_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    check = Check(ModelConfig(), gpu_check.QUICK)
    rows = [row for row in check.rows() if row.name not in ("machine", "tests", "checkpoint")]
    assert gpu_check.run(rows, time.monotonic() + 999) == 0
    assert {row["skipped"] for row in printed(capsys).values()} >= {"there is no checkpoint", "nothing is compiled"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main([])
    assert "there is no CUDA device here" in capsys.readouterr().err


@pytest.mark.parametrize("wheels", [False, True])
def test_the_script_installs_wheels_that_are_there_and_starts_the_check_in_its_time(
    tmp_path: Path, wheels: bool
) -> None:
    """In a copy of its folder, with a Python that only notes its calls."""
    script = tmp_path / "tree" / "scripts" / SCRIPT.name
    script.parent.mkdir(parents=True)
    script.write_bytes(SCRIPT.read_bytes())
    script.chmod(0o755)
    if wheels:
        (tmp_path / "tree" / ".whl").mkdir()
        (tmp_path / "tree" / ".whl" / "a-1.whl").touch()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$PYTHONPATH" "$@"\n')
    python.chmod(0o755)
    stubbed = {"PATH": os.environ["PATH"], "PYTHON": str(python), "GPU_CHECK_S": "1000", "PYTHONPATH": "before"}
    done = subprocess.run([script, "--quick"], env=stubbed, capture_output=True, text=True, check=True)
    *installs, check = done.stdout.splitlines()
    path, *arguments = check.split()
    assert arguments[:3] == ["-m", "bench.gpu_check", "--seconds"] and arguments[4:] == ["--quick"]
    assert 900 < int(arguments[3]) < 1_000
    assert path.split(":")[0] == str(tmp_path / "tree") and len(path.split(":")) == 1 + wheels
    assert len(installs) == wheels
    if wheels:
        assert "--no-index" in installs[0] and ".whl/a-1.whl" in installs[0]
        assert not Path(path.split(":")[1]).exists()
