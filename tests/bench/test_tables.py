"""What was measured is put in its place, and nothing else is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import all as everything
from bench import plots, tables

FIGURES: dict[str, dict[str, Any]] = {
    "encode": {
        "padded_s": 1.0,
        "seconds": {"3": 0.1, "10": 0.3, "30": 1.0},
        "share_of_padded": {"3": 0.1, "10": 0.3, "30": 1.0},
        "four_together_s": 1.0,
        "four_one_by_one_s": 1.2,
        "four_sooner": 1.2,
        "cores_busy_with_one": 1.9,
    },
    "memory": {
        "minutes": 10.0,
        "minutes_after": 4.0,
        "weights_mb": 600.0,
        "peak_mb": {"kv": 300.0, "embeddings": 20.0, "audio": 4.0, "rest": 120.0, "all": 1044.0},
        "grown_after_mb": {"kv": 0.0, "embeddings": 0.0, "audio": 0.0, "rest": 0.5, "all": 0.5},
        "kv_over_arithmetic": 1.03,
        "ttft_s_by_age_s": {"60": 0.2, "120": 0.25},
    },
}
STAMP = {"date": "2026-01-01", "machine": "2 cores, x86_64, a CPU"}
DOCUMENT = f"""# Measurements

Said before.

{tables.HEAD}
{tables.RULE}
| 2025-01-01 | m | `python -m bench.encode` | old | 1 s | | |
| 2025-01-01 | m | `python -m bench.soak --hours 4` | kept | 1 s | | |
| 2025-01-01 | m | `python -m bench.encode` | older | 1 s | | |

What they taught:

- Said after.
"""


def figures(bench: str) -> dict[str, Any]:
    return {"bench": bench, **STAMP, **FIGURES[bench]}


def test_rows_replace_those_of_the_same_command_where_they_stood() -> None:
    put = tables.put(DOCUMENT, "encode", tables.lines("python -m bench.encode", figures("encode")))
    rows = [line for line in put.splitlines() if line.startswith("| 20")]
    assert [row.split(" | ")[3] for row in rows] == [
        "encode 3 s",
        "encode 10 s",
        "four windows of 9 to 14 s in one batch",
        "cores that encoding one window alone keeps busy",
        "kept",
    ]
    assert rows[0].endswith("| encode 3 s | 0.1 s | transformers, padded to 30 s: 1 s | 0.1 (aim ≤ 0.15) |")


def test_prose_and_rows_of_other_commands_stay() -> None:
    put = tables.put(DOCUMENT, "memory", tables.lines("python -m bench.memory", figures("memory")))
    added = [line for line in put.splitlines() if "bench.memory" in line]
    assert len(added) == 3
    assert put.replace("".join(f"{line}\n" for line in added), "") == DOCUMENT


def test_putting_twice_changes_nothing() -> None:
    rows = tables.lines("python -m bench.encode", figures("encode"))
    once = tables.put(DOCUMENT, "encode", rows)
    assert tables.put(once, "encode", rows) == once


def test_a_document_without_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no table headed"):
        tables.put("# Measurements\n", "encode", [])


def test_the_document_of_the_project_takes_rows() -> None:
    document = (Path(everything.ROOT) / "docs" / everything.DOCUMENT).read_text()
    assert "| put |" in tables.put(document, "encode", ["| 2026-01-01 | m | `python -m bench.encode` | put | | | |"])


@pytest.mark.parametrize(
    ("value", "written"), [(0.0, "0"), (0.0671, "0.067"), (1.344, "1.34"), (12, "12"), (123.4, "123")]
)
def test_numbers_have_the_digits_that_count(value: float, written: str) -> None:
    assert tables.number(value) == written


def test_the_same_figures_draw_the_same_plot(tmp_path: Path) -> None:
    first, second = (plots.draw(figures("memory"), tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert b"time to first token" in first.read_bytes()


def test_every_bench_has_rows_and_a_plot(tmp_path: Path) -> None:
    assert {*plots.PLOTS} == {*tables.ROWS}
    drawn = plots.draw(figures("encode"), tmp_path).read_bytes()
    assert b"3 s of audio" in drawn
    assert b"transformers, padded to 30 s" in drawn


def test_one_bench_that_fails_does_not_keep_the_others_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / everything.DOCUMENT).write_text(DOCUMENT)
    printed = {"encode": None, "memory": figures("memory")}
    monkeypatch.setattr(everything, "run", lambda name, arguments: printed[name])
    arguments = ["--only", "encode", "--only", "memory", "--docs", str(tmp_path)]
    assert everything.main(arguments) == 1
    assert "1 failed: encode" in capsys.readouterr().out
    written = (tmp_path / everything.DOCUMENT).read_text()
    assert "| older |" in written
    assert "bench.memory" in written
    assert (tmp_path / "plots" / "first-token.svg").exists()


def test_what_a_bench_prints_last_is_what_it_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "bench"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "talks.py").write_text(f"print('on the way')\nprint({json.dumps(json.dumps({'bench': 'talks'}))})\n")
    (package / "fails.py").write_text("raise SystemExit(3)\n")
    (package / "silent.py").touch()
    monkeypatch.setattr(everything, "ROOT", tmp_path)
    assert everything.run("talks", []) == {"bench": "talks"}
    assert everything.run("fails", []) is None
    assert everything.run("silent", []) is None
