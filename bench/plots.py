"""Curves of what the benches print, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Figures = dict[str, Any]
OURS, OTHER, LIMIT = "#0b6e99", "#c0603a", "#888888"


def captions(f: Figures, axes: Axes) -> None:
    """How many words are shown, and stay, within which delay."""
    delays = np.array(f["live"]["word_delay_s"])
    axes.step(delays, np.arange(1, len(delays) + 1) / max(1, len(delays)), where="post", color=OURS)
    axes.set(xlabel="from a word's end to its caption, s", ylabel="share of words", ylim=(0, 1.02))


def sessions(f: Figures, axes: Axes) -> None:
    """How far behind captions are, by the number of streams."""
    for key, name, color in (
        ("captions_alone", "af3stream, captions alone", OURS),
        ("captions_by_growing_buffer", "whisper-base over a growing buffer", OTHER),
    ):
        counts = [int(count) for count in f[key]]
        axes.plot(counts, [g["final_lag_p95_s"] for g in f[key].values()], "o-", color=color, label=name)
    asked = f["streams"]
    lags = [g["final_lag_p95_s"] for g in asked.values()]
    axes.plot([int(n) for n in asked], lags, "o--", color=OURS, label="af3stream, a question each 20 s")
    axes.axhline(3.0, color=LIMIT, linewidth=0.8, linestyle=":")
    axes.set(xlabel="streams at once, two cores", ylabel="captions behind, p95, s", ylim=(0, None))
    axes.legend(frameon=False)


def memory(f: Figures, axes: Axes) -> None:
    """Time to first token, by the session's age."""
    ages = [float(age) / 60 for age in f["ttft_s_by_age_s"]]
    axes.plot(ages, list(f["ttft_s_by_age_s"].values()), "o-", color=OURS)
    axes.set(xlabel="minutes heard", ylabel="time to first token, s", ylim=(0, None))


def append(f: Figures, axes: Axes) -> None:
    """What each window costs to append."""
    axes.plot(range(1, len(f["seconds"]) + 1), f["seconds"], "o-", color=OURS)
    axes.set(xlabel="window", ylabel="appending it, s", ylim=(0, None))


PLOTS: Final[dict[str, tuple[str, Callable[[Figures, Axes], None]]]] = {
    "append": ("append", append),
    "captions": ("word-delay", captions),
    "sessions": ("streams", sessions),
    "memory": ("first-token", memory),
}


def draw(figures: Figures, folder: Path) -> Path | None:
    """Write the bench's plot, where it has one."""
    if figures["bench"] not in PLOTS:
        return None
    name, curve = PLOTS[figures["bench"]]
    settings = {"svg.hashsalt": "af3stream", "svg.fonttype": "none", "axes.spines.top": False, "font.size": 9}
    with mpl.rc_context({**settings, "axes.spines.right": False}):
        figure = Figure(figsize=(5.2, 3.0), layout="constrained")
        curve(figures, figure.add_subplot())
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    return path
