"""``python -m training.curve RUN PICTURE``: the losses and validations of a run, as a picture. Needs matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SMOOTH = 15  # steps


def draw(folder: Path, picture: Path) -> None:
    """Two panels: the alignment stage and the reading stage, over minutes of training."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "mini"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 3.6))
    for panel, stage in zip(panels, ("listen", "read"), strict=True):
        lines = _record(folder / f"{stage}.jsonl")
        minutes, losses = _points(lines, "loss")
        panel.plot(minutes, losses, color="#bbb", linewidth=0.6, label="loss of a step")
        panel.plot(minutes, _smoothed(losses), color="#06c", label="its mean over 15 steps")
        panel.set(
            title=f"{stage}: loss a token", xlabel="minutes of training", ylim=(0, np.quantile(losses, 0.98) * 1.1)
        )
        measured = panel.twinx()
        measured.set_ylim(0, 1)
        if stage == "listen":
            measured.plot(*_points(lines, "words_wrong"), "o-", color="#c60", label="words wrong, held-out voices")
            measured.plot(*_points(lines, "of_people"), "o-", color="#939", label="words wrong, people")
        else:
            for kind, colour in (("about_read", "#c60"), ("which_heard", "#393"), ("mentioned_heard", "#939")):
                measured.plot(*_points(lines, kind), "o-", color=colour, label=f"right: {kind.replace('_', ', ')}")
        panel.legend(loc="upper left", fontsize=7)
        measured.legend(loc="upper right", fontsize=7)
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None})


def _record(path: Path) -> list[dict[str, Any]]:
    """The lines of a run; where it went on from an earlier state, without the steps that were lost."""
    kept: list[dict[str, Any]] = []
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        while kept and kept[-1]["seconds"] > line["seconds"]:
            kept.pop()
        kept.append(line)
    return kept


def _points(lines: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    found = [line for line in lines if key in line]
    return [line["seconds"] / 60 for line in found], [line[key] for line in found]


def _smoothed(values: list[float]) -> list[float]:
    return [float(np.mean(values[max(0, i + 1 - SMOOTH) : i + 1])) for i in range(len(values))]


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
