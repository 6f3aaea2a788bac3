"""Clock, log and saved state of a stage, so that a run can be stopped, resumed and paused."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch


class Progress:
    """Counts a stage's training time without pauses, and saves its state.

    Args:
        folder: folder of the run.
        stage: name of the state file and of the log, which has one JSON line a step.
        minutes: training time of the stage.
        steps: the most steps; 0 for no limit.
        pause_file: ``step`` waits while this file exists; empty for none.
    """

    def __init__(self, folder: Path, stage: str, minutes: float, steps: int, pause_file: str) -> None:
        self._state = folder / f"{stage}.pt"
        self._record = folder / f"{stage}.jsonl"
        self._stage = stage
        self._limit_s, self._limit = 60 * minutes, steps
        self._pause = Path(pause_file) if pause_file else None
        self._last = time.monotonic()
        self._saved_s = 0.0
        self.seconds = 0.0
        self.steps = 0
        self.clips = 0

    @property
    def share(self) -> float:
        """Share of the stage that is done, 0 to 1."""
        return min(1.0, max(self.seconds / self._limit_s, self.steps / self._limit if self._limit else 0.0))

    def rate(self, warmup_steps: int) -> float:
        """Return the learning rate relative to its maximum: a warm-up, then half a cosine."""
        return min(1.0, (self.steps + 1) / warmup_steps) * max(0.02, 0.5 * (1 + math.cos(math.pi * self.share)))

    def step(self, clips: int, **numbers: float) -> None:
        """Count, print and log a step, and wait while the pause file exists."""
        now = time.monotonic()
        self.seconds += now - self._last
        self.steps += 1
        self.clips += clips
        line = {"step": self.steps, "clips": self.clips, "seconds": round(self.seconds, 1), **numbers}
        print(self._stage, " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in line.items()))
        with self._record.open("a", encoding="utf-8") as record:
            record.write(json.dumps(line) + "\n")
        while self._pause and self._pause.exists():
            time.sleep(1)
        self._last = time.monotonic()

    def note(self, **numbers: float) -> None:
        """Print and log further figures."""
        line = {"step": self.steps, "clips": self.clips, "seconds": round(self.seconds, 1), **numbers}
        print(self._stage, json.dumps(line), flush=True)
        with self._record.open("a", encoding="utf-8") as record:
            record.write(json.dumps(line) + "\n")
        self._last = time.monotonic()  # validation does not count as training time

    def restore(self) -> dict[str, Any] | None:
        """Load the state of an interrupted run, if there is one."""
        if not self._state.exists():
            return None
        state: dict[str, Any] = torch.load(self._state, weights_only=False)
        self.seconds, self.steps, self.clips = state.pop("progress")
        self._saved_s = self.seconds
        return state

    def due(self, minutes: float) -> bool:
        """Return whether ``minutes`` have passed since the last ``save``."""
        return self.seconds - self._saved_s >= 60 * minutes

    def save(self, state: dict[str, Any]) -> None:
        """Save the state atomically."""
        beside = self._state.with_suffix(".part")
        torch.save({**state, "progress": (self.seconds, self.steps, self.clips)}, beside)
        beside.rename(self._state)
        self._saved_s = self.seconds


class Average:
    """Moving average of parameters, which generalises better than their last values."""

    def __init__(self, parameters: dict[str, torch.Tensor], decay: float) -> None:
        self._decay = decay
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, torch.Tensor], step: int) -> None:
        """Update the average; the first steps have a larger weight."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in self.values.items():
            value.lerp_(parameters[name].detach(), 1 - decay)
