"""Run `af3stream`, and record each step of its engine as a JSON line.

``python -m bench.recorded_server FILE serve [options]``
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import IO, Any
from unittest.mock import patch

from af3stream import cli
from af3stream.engine.contract import PromptPart, Text
from af3stream.engine.engine_core import EngineCore, Work
from af3stream.engine.jobs import AnswerJob, CaptionJob, ExtendJob, ReviseJob
from af3stream.engine.request import Status
from bench.common import RATE


def main() -> None:
    """Run the command line with a record."""
    path, *arguments = sys.argv[1:]
    charge = EngineCore._charge

    def recorded(core: EngineCore, tasks: Sequence[Work], seconds: float) -> None:
        _write(file, tasks, seconds)
        charge(core, tasks, seconds)

    with open(path, "w", buffering=1) as file, patch.object(EngineCore, "_charge", recorded):  # noqa: PTH123 - buffering
        sys.exit(cli.main(arguments))


def _write(file: IO[str], tasks: Sequence[Work], seconds: float) -> None:
    """Write what a step did: its kind, the jobs in it, its seconds, and the size of its job."""
    job = tasks[0].work.job
    entry: dict[str, Any] = {
        "kind": type(job).__name__,
        "job": tasks[0].arrival,
        "jobs": len(tasks),
        "seconds": seconds,
    }
    match job:
        case CaptionJob():
            entry |= {"final": job.final, "audio_s": len(job.samples) / RATE}
        case ReviseJob():
            entry |= {"audio_s": len(job.samples) / RATE}
        case ExtendJob():
            entry |= {"characters": characters(job.parts[-1:])}
        case AnswerJob():
            entry |= {
                "token": tasks[0].work.status is Status.DECODING,
                "characters": characters(job.parts[job.prefix :]),
            }
    file.write(json.dumps(entry) + "\n")


def characters(parts: Sequence[PromptPart]) -> int:
    """Return the characters of the texts among parts."""
    return sum(len(part.text) for part in parts if isinstance(part, Text))


if __name__ == "__main__":
    main()
