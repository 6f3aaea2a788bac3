"""The clock and the record of a stage: what a run needs to be stopped, go on, and wait for others."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch


class Progress:
    """Counts a stage's training time, without pauses, and keeps its state.

    Args:
        folder: of the run.
        stage: the name of its state and of its record, one JSON line a step.
        minutes: how long the stage trains.
        steps: where it ends sooner; 0: nowhere.
        pause_file: while it exists, ``step`` waits; empty: never.
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
        """How much of the stage is done, 0 to 1."""
        return min(1.0, max(self.seconds / self._limit_s, self.steps / self._limit if self._limit else 0.0))

    def rate(self, warmup_steps: int) -> float:
        """The learning rate, relative to its height: a warm-up, then half a cosine."""
        return min(1.0, (self.steps + 1) / warmup_steps) * max(0.02, 0.5 * (1 + math.cos(math.pi * self.share)))

    def step(self, clips: int, **numbers: float) -> None:
        """Count a step, print it, write it down, and wait while others measure."""
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
        """Print and write down what was measured on the way."""
        line = {"step": self.steps, "clips": self.clips, "seconds": round(self.seconds, 1), **numbers}
        print(self._stage, json.dumps(line), flush=True)
        with self._record.open("a", encoding="utf-8") as record:
            record.write(json.dumps(line) + "\n")
        self._last = time.monotonic()  # measuring is not training

    def restore(self) -> dict[str, Any] | None:
        """The state of an interrupted run, if there is one."""
        if not self._state.exists():
            return None
        state: dict[str, Any] = torch.load(self._state, weights_only=False)
        self.seconds, self.steps, self.clips = state.pop("progress")
        self._saved_s = self.seconds
        return state

    def due(self, minutes: float) -> bool:
        """Whether so many minutes passed since the last ``save``."""
        return self.seconds - self._saved_s >= 60 * minutes

    def save(self, state: dict[str, Any]) -> None:
        """Keep the state; it appears whole."""
        beside = self._state.with_suffix(".part")
        torch.save({**state, "progress": (self.seconds, self.steps, self.clips)}, beside)
        beside.rename(self._state)
        self._saved_s = self.seconds


class Average:
    """The moving average of some parameters, which generalises better than their last values."""

    def __init__(self, parameters: dict[str, torch.Tensor], decay: float) -> None:
        self._decay = decay
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, torch.Tensor], step: int) -> None:
        """Take the parameters in; the first steps weigh more."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in self.values.items():
            value.lerp_(parameters[name].detach(), 1 - decay)
