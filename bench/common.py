"""What every bench shares: the machine, honest timing, and one JSON line last."""

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
from af3stream.engine.contract import Completion, Context, PromptPart, Samples
from af3stream.engine.factory import load_engine

RATE = 16_000
RECORDINGS = Path(__file__).parent.parent / "tests" / "recordings"
SETTINGS: tuple[str, ...] = ()  # `section.key=value` each: what differs from the defaults; another model in tests


def quick(description: str | None, argv: Sequence[str] | None = None) -> bool:
    """The command line of a bench: whether it is asked for its small size."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small size: whether it runs, not what it measures")
    return bool(parser.parse_args(argv).quick)


def config() -> Config:
    """What benches run with."""
    return load(overrides=SETTINGS)


def mini() -> Af3Engine:
    """The embedded model, in float32."""
    return loaded()


def loaded(*settings: str) -> Af3Engine:
    """The model, with further settings; `section.key=value` each."""
    engine = load_engine(load(overrides=(*SETTINGS, *settings))).engine
    assert isinstance(engine, Af3Engine)
    return engine


def speech(seconds: float, pause_s: float = 0.0) -> Samples:
    """Real speech of so many seconds: the sample recordings, over and over.  # (n,) float32 at 16 kHz"""
    pause = np.zeros(round(pause_s * RATE), np.float32)
    read = [soundfile.read(path, dtype="float32")[0] for path in sorted(RECORDINGS.glob("*.wav"))]
    pieces = [piece for recording in read for piece in (recording, pause)]
    return np.resize(np.concatenate(pieces), round(seconds * RATE)).astype(np.float32)


def once(act: Callable[[], Any]) -> float:
    """Seconds of one call, until the device has done its work."""
    synchronize()
    began = time.perf_counter()
    act()
    synchronize()
    return time.perf_counter() - began


def timed(act: Callable[[], Any], runs: int) -> float:
    """Median seconds of ``runs`` calls, after one that does not count."""
    act()
    return statistics.median(once(act) for _ in range(runs))


def synchronize() -> None:
    """Wait for the work that was given to a GPU; a CPU has done its own."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def first_token(context: Context, parts: list[PromptPart], question: str) -> None:
    """Answer up to the first token, and leave the rest."""
    with closing(context.answer(parts, question, 1)) as answer:
        next(piece for piece in answer if isinstance(piece, Completion))


def endless(engine: Af3Engine) -> None:
    """Have every answer written to its cap from now on."""

    def ends(written: Sequence[int]) -> bool:  # noqa: ARG001 - the signature of what it replaces
        return False

    engine._decoder.ends = ends  # type: ignore[method-assign]  # the bench replaces the model's end token


def p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return float(np.percentile(values, 95))


def report(bench: str, **figures: Any) -> None:
    """Print the figures as one JSON line, with when and where."""
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
