"""Helpers of all benches: engine, audio, timing, and the JSON report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from af3stream.config import Config, load
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import Completion, Context, PromptPart
from af3stream.engine.factory import load_engine

RATE = 16_000
RECORDINGS = Path(__file__).parent.parent / "tests" / "recordings"
SETTINGS: tuple[str, ...] = ()  # settings as `section.key=value` that override the defaults; tests set another model


def quick(description: str | None, argv: Sequence[str] | None = None) -> bool:
    """Parse the command line of a bench, and return whether ``--quick`` is set."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small size, to check that the bench runs")
    return bool(parser.parse_args(argv).quick)


def config() -> Config:
    """Return the configuration of the benches."""
    return load(overrides=SETTINGS)


def mini() -> Af3Engine:
    """Load the embedded model in float32."""
    return loaded()


def loaded(*settings: str) -> Af3Engine:
    """Load the model with further settings, `section.key=value` each."""
    engine = load_engine(load(overrides=(*SETTINGS, *settings))).engine
    assert isinstance(engine, Af3Engine)
    return engine


def speech(seconds: float, pause_s: float = 0.0) -> Samples:
    """Return ``seconds`` of real speech, (n,) float32 at 16 kHz: the sample recordings, repeated."""
    pause = np.zeros(round(pause_s * RATE), np.float32)
    read = [soundfile.read(path, dtype="float32")[0] for path in sorted(RECORDINGS.glob("*.wav"))]
    pieces = [piece for recording in read for piece in (recording, pause)]
    return np.resize(np.concatenate(pieces), round(seconds * RATE)).astype(np.float32)


def once(act: Callable[[], Any]) -> float:
    """Return the seconds of one call, including pending work of the device."""
    synchronize()
    began = time.perf_counter()
    act()
    synchronize()
    return time.perf_counter() - began


def timed(act: Callable[[], Any], runs: int) -> float:
    """Return the median seconds of ``runs`` calls, after one warm-up call."""
    act()
    return statistics.median(once(act) for _ in range(runs))


def synchronize() -> None:
    """Wait for the pending work of a GPU, if there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def first_token(context: Context, parts: list[PromptPart], question: str) -> None:
    """Answer up to the first token, then stop."""
    with closing(context.answer(parts, question, 1)) as answer:
        next(piece for piece in answer if isinstance(piece, Completion))


def endless(engine: Af3Engine) -> None:
    """Make every answer of the engine run to its token limit."""

    def ends(written: Sequence[int]) -> bool:  # noqa: ARG001 - same signature as the original
        return False

    engine._decoder.ends = ends  # type: ignore[method-assign]  # disables the end token


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return float(np.percentile(values, 95))


def report(bench: str, **figures: Any) -> None:
    """Print the figures as one JSON line, with date and machine."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {_cpu()}, {torch.backends.cpu.get_cpu_capability()}"
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    print(json.dumps({"bench": bench, "date": date, "machine": machine, **_rounded(figures)}))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
