"""Draw the figures of the benches as SVG; equal figures give equal files."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

Figures = dict[str, Any]
STYLE: Final[dict[RcKeyType, str | bool | int]] = {
    "svg.hashsalt": "af3stream",
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}
OURS, OTHER, LIMIT = "#0b6e99", "#c0603a", "#888888"


def captions(f: Figures, axes: Axes) -> None:
    """Plot the share of words that are shown and stable by delay."""
    delays = np.array(f["live"]["word_delay_s"])
    axes.step(delays, np.arange(1, len(delays) + 1) / max(1, len(delays)), where="post", color=OURS)
    axes.set(xlabel="from a word's end to its caption, s", ylabel="share of words", ylim=(0, 1.02))


def sessions(f: Figures, axes: Axes) -> None:
    """Plot the lag of captions by the number of streams."""
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
    """Plot the time to first token by the session's age."""
    ages = [float(age) / 60 for age in f["ttft_s_by_age_s"]]
    axes.plot(ages, list(f["ttft_s_by_age_s"].values()), "o-", color=OURS)
    axes.set(xlabel="minutes heard", ylabel="time to first token, s", ylim=(0, None))


def append(f: Figures, axes: Axes) -> None:
    """Plot the cost of appending each window."""
    axes.plot(range(1, len(f["seconds"]) + 1), f["seconds"], "o-", color=OURS)
    axes.set(xlabel="window", ylabel="appending it, s", ylim=(0, None))


def bars(axes: Axes, unit: str, named: dict[str, float], *, others: Container[str] = (), log: bool = False) -> None:
    """Draw a labelled bar for each value; alternatives have a colour of their own."""
    drawn = axes.barh(list(named), list(named.values()), color=[OTHER if name in others else OURS for name in named])
    axes.bar_label(drawn, fmt="%.3g", padding=3)
    axes.invert_yaxis()
    axes.set(xlabel=unit, xscale="log" if log else "linear")
    axes.margins(x=0.15)


def encode(f: Figures, axes: Axes) -> None:
    """Plot the cost of encoding by the length of the audio."""
    padded = "transformers, padded to 30 s"
    bars(
        axes,
        "encoding, s",
        {**{f"{s} s of audio": took for s, took in f["seconds"].items()}, padded: f["padded_s"]},
        others=[padded],
    )


def question(f: Figures, axes: Axes) -> None:
    """Plot the time to first token, against the alternatives."""
    ttft, others = f["ttft_s"], ("prefill of ready embeddings", "generate from the audio")
    named = {"nothing open": ttft["kept"], "10 s open": ttft["open"]}
    named |= dict(zip(others, (ttft["prefill"], ttft["generate"]), strict=True))
    bars(axes, f"first token, {f['windows']} windows heard, s", named, others=others, log=True)


def floor(f: Figures, axes: Axes) -> None:
    """Plot the bytes per second that decoding reads, against the memory bandwidth."""
    named = {"a sum over memory": max(g["memory_gb_a_second"] for g in f["by_windows"].values())}
    for way, figures in (("decoding", f["by_windows"]), ("compiled", f["compiled_by_windows"])):
        named |= {f"{way}, windows: {n}": g["read_gb_a_second"] for n, g in figures.items()}
    bars(axes, "GB read a second", named, others=["a sum over memory"])


def rebuild(f: Figures, axes: Axes) -> None:
    """Plot the delay that a background rebuild causes."""
    named = {
        "an answer, alone": f["answer_s"],
        "beside a rebuild": f["answer_beside_a_rebuild_s"],
        "a final, alone": f["final_p95_s"],
        "beside a rebuild ": f["final_beside_a_rebuild_p95_s"],
    }
    bars(axes, "s", named, others=["beside a rebuild", "beside a rebuild "])


def weights(f: Figures, axes: Axes) -> None:
    """Plot tokens per second by the format of the weights."""
    bars(axes, "tokens a second", {way: g["tokens_a_second"] for way, g in f["by_weights"].items()})


def http_cost(f: Figures, axes: Axes) -> None:
    """Plot the CPU time of a message, with HTTP on the same port and without."""
    named = {"websockets behind HTTP": "behind_http", "websockets alone": "websockets_alone"}
    named["uvicorn's websockets-sansio"] = "uvicorn_sansio"
    costs = {name: f[way]["cpu_s_a_round_trip"] * 1e6 for name, way in named.items()}
    bars(axes, "CPU time of the server a message, µs", costs, others=list(named)[1:])


def lease_cost(f: Figures, axes: Axes) -> None:
    """Plot how long a session takes to move to another server."""
    moved = {"to another server": f["takeover_s"]["shared"], "after a restart": f["takeover_s"]["alone"]}
    bars(axes, "a session with a minute of raw audio moves, s", moved, others=["after a restart"])


def peers(f: Figures, axes: Axes) -> None:
    """Plot the delay of words by the number of streams, against WhisperLive."""
    by_streams = f["by_streams"]
    for key, name, color in (("ours", "af3stream", OURS), ("whisper_live", "WhisperLive", OTHER)):
        delays = [g[key]["word_delay_p95_s"] for g in by_streams.values()]
        axes.plot([int(count) for count in by_streams], delays, "o-", color=color, label=name)
    axes.set(xlabel="streams at once, two cores", ylabel="word said to word shown, p95, s", ylim=(0, None))
    axes.legend(frameon=False)


def waiting(f: Figures, axes: Axes) -> None:
    """Plot how far final captions are behind, by how long threads look for more work."""
    names = {"ours": "1,000 times", "default": "libgomp's default", "none": "not at all"}
    behind = {
        f"{names[way]}, {place}": of[place]["final_behind_mean_s"]
        for place in ("alone", "busy")
        for way, of in f["by_way"].items()
    }
    others = [name for name in behind if not name.startswith(names["ours"])]
    bars(axes, "final captions behind, mean, s", behind, others=others)


def cluster(f: Figures, axes: Axes) -> None:
    """Plot the time to the first token in one process, and through a gateway and an engine."""
    ways = {"one process": "one_process", "gateway and engine": "gateway_and_engine"}
    medians = {name: f[way]["first_token"]["p50_ms"] for name, way in ways.items()}
    bars(axes, "time to the first token without a model, median, ms", medians, others=["one process"])


def capacity(f: Figures, axes: Axes) -> None:
    """Plot the delays of eight streams, simulated over measured."""
    ratios = {name.removesuffix("_s"): of["ratio"] for name, of in f["eight_streams"]["by_figure"].items()}
    bars(axes, "eight streams, simulated over measured", ratios, others=[])


PLOTS: Final[dict[str, tuple[str, Callable[[Figures, Axes], None]]]] = {
    "encode": ("encode", encode),
    "append": ("append", append),
    "question": ("question", question),
    "captions": ("word-delay", captions),
    "sessions": ("streams", sessions),
    "floor": ("floor", floor),
    "memory": ("first-token", memory),
    "rebuild": ("rebuild", rebuild),
    "weights": ("weights", weights),
    "http_cost": ("http-cost", http_cost),
    "lease_cost": ("lease-cost", lease_cost),
    "waiting": ("waiting", waiting),
    "peers": ("peers", peers),
    "cluster": ("cluster", cluster),
    "capacity": ("capacity", capacity),
}


def draw(figures: Figures, folder: Path) -> Path:
    """Write the plot of a bench, and return its path."""
    name, curve = PLOTS[figures["bench"]]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.0), layout="constrained")
        curve(figures, figure.add_subplot())
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    return path
