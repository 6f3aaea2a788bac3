"""What every bench shares: the machine, honest timing, and one JSON line last."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from af3stream.config import load
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.contract import Completion, Context, Part, Samples
from af3stream.engine.factory import load_engine

RATE = 16_000
RECORDINGS = Path(__file__).parent.parent / "tests" / "recordings"


def mini() -> Af3Engine:
    """The embedded model, in float32."""
    engine = load_engine(load()).engine
    assert isinstance(engine, Af3Engine)
    return engine


def speech(seconds: float, pause_s: float = 0.0) -> Samples:
    """Real speech of so many seconds: the sample recordings, over and over.  # (n,) float32 at 16 kHz"""
    pause = np.zeros(round(pause_s * RATE), np.float32)
    read = [soundfile.read(path, dtype="float32")[0] for path in sorted(RECORDINGS.glob("*.wav"))]
    pieces = [piece for recording in read for piece in (recording, pause)]
    return np.resize(np.concatenate(pieces), round(seconds * RATE)).astype(np.float32)


def timed(act: Callable[[], Any], runs: int) -> float:
    """Median seconds of ``runs`` calls, after one that does not count."""
    act()
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def first_token(context: Context, parts: list[Part], question: str) -> None:
    """Answer up to the first token, and leave the rest."""
    for piece in context.answer(parts, question, 1):
        if isinstance(piece, Completion):
            return


def report(bench: str, **figures: Any) -> None:
    """Print the figures as one JSON line, with when and where."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {_cpu()}"
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
