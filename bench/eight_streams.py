"""Measure eight streams on a real server, with the steps of its engine: what `bench.capacity` must reproduce.

The streams are speech in real time, with a question each 12 s, as those of `bench.sessions`. The steps are recorded
(`bench.recorded_server`), because beside other work on the machine they take longer than alone. The figures are means
of several runs, because the largest delays of one run vary.
``python -m bench.eight_streams [--quick]``
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.common import quick, report, speech
from bench.live import LISTENS, command, process, stream
from bench.sessions import QUESTION, together_on


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench."""

    streams: int = 8
    seconds: float = 30.0
    asked_every_s: float = 12.0
    runs: int = 3


QUICK: Final = Size(1, 3.0, 1.0, 1)
KINDS: Final = ("CaptionJob", "ReviseJob", "ExtendJob", "AnswerJob")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the figures."""
    size = QUICK if quick(__doc__, argv) else Size()
    figures = asyncio.run(measure(size))
    report("eight_streams", load_average=os.getloadavg()[0], **asdict(size), **figures)


async def measure(size: Size) -> dict[str, Any]:
    """Return the figures of `bench.sessions` for its largest number of streams, and the steps of the server."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "steps"
        serve = command()
        recorded = [serve[0], "-m", "bench.recorded_server", str(path), *serve[serve.index("serve") :]]
        async with process(recorded, LISTENS) as (_, url):
            await stream(url, speech(2.0), question=QUESTION, every_s=1.0)  # warm up
            warm = len(path.read_text())
            runs = [await together_on(url, size.streams, size.seconds, size.asked_every_s) for _ in range(size.runs)]
        tokens = [count for run in runs for count in run.pop("answer_tokens")]
        means = {name: statistics.fmean(run[name] for run in runs) for name in runs[0]}
        return {
            **means,
            "answer_tokens": tokens,
            "steps": summed([json.loads(line) for line in path.read_text()[warm:].splitlines()]),
        }


def summed(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what jobs of each kind took in the server.

    For captions that is a line over the seconds of audio, for reading one over the characters of captions, and for
    tokens the mean seconds of a pass by the answers in it. ``spread``: the standard deviation of a job's seconds over
    those of its line.
    """
    jobs = _jobs([step for step in steps if not (step["kind"] == "AnswerJob" and step["token"])])
    of_kind = {kind: [job for job in jobs if job["kind"] == kind] for kind in KINDS}
    lines = {
        "final": _line([job for job in of_kind["CaptionJob"] if job["final"]], "audio_s"),
        "interim": _line([job for job in of_kind["CaptionJob"] if not job["final"]], "audio_s"),
        "revise": _line(of_kind["ReviseJob"], "audio_s"),
        "extend": _line(of_kind["ExtendJob"], "characters"),
        "answer": _line(of_kind["AnswerJob"], "characters"),
    }
    tokens: dict[str, list[float]] = {}
    for step in steps:
        if step["kind"] == "AnswerJob" and step["token"]:
            tokens.setdefault(str(step["jobs"]), []).append(step["seconds"])
    return {**lines, "token": {batch: statistics.fmean(seconds) for batch, seconds in sorted(tokens.items())}}


def _jobs(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry a job, with the seconds of all its steps."""
    jobs: dict[int, dict[str, Any]] = {}
    for step in steps:
        job = jobs.setdefault(step["job"], {**step, "seconds": 0.0})
        job["seconds"] += step["seconds"]
    return list(jobs.values())


def _line(entries: Sequence[dict[str, Any]], size: str) -> dict[str, float]:
    """Fit a line of seconds over a size; with one size alone, the line is level."""
    sizes, seconds = [entry[size] for entry in entries], [entry["seconds"] for entry in entries]
    if not entries:
        return {"count": 0, "at_zero": 0.0, "slope": 0.0, "mean_size": 0.0, "spread": 0.0}
    slope, at_zero = np.polyfit(sizes, seconds, 1) if len(set(sizes)) > 1 else (0.0, statistics.fmean(seconds))
    return {
        "count": len(entries),
        "at_zero": float(at_zero),
        "slope": float(slope),
        "mean_size": statistics.fmean(sizes),
        "spread": float(np.std(np.asarray(seconds) / (at_zero + slope * np.asarray(sizes)))),
    }


if __name__ == "__main__":
    main()
