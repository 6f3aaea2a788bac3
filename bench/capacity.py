"""Simulate 10^3, 10^5 and 10^7 streams: what saturates first, what then changes, and what a thousand hours cost.

`bench/capacity.toml` holds what it is driven by: each figure names its source, and whether it is measured, arithmetic,
published or assumed. `bench/eight_streams.json` is the measured run of `bench.eight_streams` that it must reproduce.
Streams on one engine are simulated job by job, with af3stream's own scheduler (`bench.simulation`). The first figure is
how well that reproduces the measured run of eight streams. A cluster is as many such engines as the streams need; the
queues of what gateways and engines share are simulated at the load of all of them.
``python -m bench.capacity [--quick]``
"""

from __future__ import annotations

import json
import math
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from af3stream.audio.events import Utterance, Window
from af3stream.audio.segmenter import Segmenter
from af3stream.config import AudioConfig, QuestionsConfig
from bench.common import RATE, p95, quick, report
from bench.live import spoken
from bench.sessions import PAUSE_S, tokens_a_second_of
from bench.simulation import (
    Asking,
    Line,
    Outcome,
    ServiceTimes,
    Table,
    Talk,
    conversation,
    run_engine,
    waits,
)

FOLDER: Final = Path(__file__).parent
FINAL_P95_S, FIRST_P95_S, BUSY = 3.0, 5.0, 0.9  # what an engine's streams may see at most, as server.admit_busy
HEADROOM: Final = 0.8  # of what an engine carries is placed on it, so that the others take those of a lost one
CONTEXT_S: Final = 600.0  # of a full context window
CHUNK_CHARACTERS: Final = 512  # of captions in a reading step of 128 positions
QUESTION_POSITIONS: Final = 32
SEED: Final = 26
RUNS: Final = 16
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench: streams of a cluster, seconds that an engine is simulated for, arrivals at a shared queue."""

    streams: tuple[int, ...] = (10**3, 10**5, 10**7)
    seconds: float = 240.0
    arrivals: int = 20_000


QUICK: Final = Size((10**3,), 60.0, 500)


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of engine.

    Attributes:
        memory: bytes for keys and values.
        position_bytes: of keys and values.
        positions_s: positions that a second of a stream takes in the KV prefix.
    """

    name: str
    times: ServiceTimes
    asking: Asking
    memory: float
    position_bytes: float
    positions_s: float
    dollars_h: float

    @property
    def kv_bytes(self) -> float:
        """Bytes of keys and values of a session whose context window is full."""
        return self.position_bytes * self.positions_s * CONTEXT_S


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate, and print the figures."""
    size = QUICK if quick(__doc__, argv) else Size()
    profiles = [cpu(), gpu("AF3 and its captions on one H200"), gpu("AF3 on one H200, captions apart", captions=False)]
    engines = {profile.name: engine(profile, size) for profile in profiles}
    report(
        "capacity",
        eight_streams=eight_streams(),
        engines=engines,
        clusters={
            profile.name: {str(n): cluster(profile, engines[profile.name]["streams"], n, size) for n in size.streams}
            for profile in profiles
        },
    )


# ---- what drives it --------------------------------------------------------------------------------------------------


@cache
def sections() -> Mapping[str, Mapping[str, Figures]]:
    """Return `bench/capacity.toml`: by section and name a value, its mark and its source."""
    return tomllib.loads((FOLDER / "capacity.toml").read_text())


@cache
def figures() -> Mapping[str, float]:
    """Return the values of `bench/capacity.toml` that are numbers, by section and name."""
    return {
        f"{section}.{name}": entry["value"]
        for section, entries in sections().items()
        for name, entry in entries.items()
        if not isinstance(entry["value"], list)
    }


@cache
def utterances_s() -> tuple[float, ...]:
    """Return the lengths of utterances."""
    return tuple(sections()["stream"]["utterances_s"]["value"])


@cache
def measured_streams() -> Figures:
    """Return the measured run of eight streams."""
    run: Figures = json.loads((FOLDER / "eight_streams.json").read_text())
    return run


def cpu() -> Profile:
    """Return `mini` on two cores, as measured: its prompt holds captions in place of audio."""
    f = figures()
    read, first, one, four = f["cpu.read_s"], f["cpu.first_token_s"], f["cpu.token_s"], f["cpu.token_of_four_s"]
    times = ServiceTimes(
        Line(0.0, f["cpu.final_s"]),
        Line(f["cpu.interim_s"], 0.0),
        Line(0.0, f["cpu.revise_s"]),
        Line(0.0, 0.0),
        Line(0.0, read),
        Line(first, read),
        Line.through({1.0: one, 4.0: four}),
        chunk=128,
        frames_s=0.0,
        tokens_s=f["stream.tokens_s"],
        spread=spread(),
    )
    asking = Asking(QuestionsConfig().read_tokens, (int(f["stream.answer_tokens"]),))
    memory = f["cpu.engine_memory_bytes"] - f["cpu.weights_bytes"]
    return Profile(
        "mini on two cores", times, asking, memory, f["cpu.kv_bytes_a_position"], times.tokens_s, f["cpu.dollars_h"]
    )


def gpu(name: str, *, captions: bool = True) -> Profile:
    """Return the 8B checkpoint on one GPU, by arithmetic: bytes over bandwidth, operations over their rate.

    Args:
        captions: whether AF3 makes the captions, too.
    """
    f = figures()
    rate, bandwidth = f["gpu.flops"] * f["gpu.flops_share"], f["gpu.bandwidth_bytes_s"] * f["gpu.bandwidth_share"]
    language, encoder = f["gpu.language_parameters"], f["gpu.encoder_parameters"]
    read = Line(0.0, 2 * language / rate)
    encode = Line(0.0, 2 * encoder * 2 * f["gpu.frames_s"] / rate)  # two positions a frame, before they are pooled
    one_token = 2 * language / bandwidth
    a_token_more = f["gpu.kv_bytes_a_position"] * f["gpu.frames_s"] * CONTEXT_S / bandwidth  # each reads its own KV
    caption = Line(0.0, encode.slope + read.slope * f["gpu.frames_s"] + f["stream.tokens_s"] * one_token)
    times = ServiceTimes(
        caption if captions else None,
        caption if captions else None,
        None,
        encode,
        read,
        Line(read(QUESTION_POSITIONS), read.slope),
        Line(one_token, a_token_more),
        chunk=1_024,
        frames_s=f["gpu.frames_s"],
        tokens_s=0.0,
    )
    memory = f["gpu.engine_memory_bytes"] - f["gpu.weights_bytes"]
    asking = Asking(4_096, (int(f["stream.answer_tokens"]),))
    return Profile(name, times, asking, memory, f["gpu.kv_bytes_a_position"], f["gpu.frames_s"], f["gpu.dollars_h"])


# ---- the measured run ------------------------------------------------------------------------------------------------


def eight_streams() -> Figures:
    """Return the measured figures of eight streams, the simulated ones, and their ratios.

    The simulation takes the steps that the server recorded in the measured run, because other work on the machine made
    them longer than those of an engine alone. Its figures are means of several runs, because steps vary.
    """
    was = measured_streams()
    count, seconds, every_s = was["streams"], was["seconds"], was["asked_every_s"]
    talks = [heard(seconds, index, every_s) for index in range(count)]
    times, asking = recorded(was["steps"]), Asking(math.inf, tuple(was["answer_tokens"]))
    runs = [run_engine(times, talks, asking, apart_s=1 / count, seed=seed) for seed in range(RUNS)]
    each = [{**seen(run), "device_busy": run.busy, "finals": float(len(run.lags_s))} for run in runs]
    simulated = {name: sum(run[name] for run in each) / RUNS for name in each[0]}
    compared = {
        name: {"measured": was[name], "simulated": value, "ratio": value / was[name]}
        for name, value in simulated.items()
    }
    return {"by_figure": compared, "worst_ratio": max(max(c["ratio"], 1 / c["ratio"]) for c in compared.values())}


def recorded(steps: Figures) -> ServiceTimes:
    """Return the times of the steps that a server recorded. Positions are characters of captions."""
    lines = {
        name: Line(fit["at_zero"], fit["slope"]) for name, fit in steps.items() if name != "token" and fit["count"]
    }
    token = Table(tuple((float(batch), seconds) for batch, seconds in steps["token"].items()))
    return ServiceTimes(
        lines["final"],
        lines.get("interim"),
        lines.get("revise"),
        Line(0.0, 0.0),
        lines.get("extend", Line(0.0, 0.0)),
        lines["answer"],
        token,
        chunk=CHUNK_CHARACTERS,
        frames_s=0.0,
        tokens_s=figures()["stream.characters_s"],
        spread=spread(),
    )


@cache
def spread() -> float:
    """Return how much the steps of one kind vary in the measured run: standard deviation over mean."""
    fits = [fit for name, fit in measured_streams()["steps"].items() if name != "token"]
    return float(sum(fit["spread"] * fit["count"] for fit in fits) / sum(fit["count"] for fit in fits))


def heard(seconds: float, index: int, ask_every_s: float) -> Talk:
    """Return what the segmenter finds in the audio of `bench.live.spoken`, with a question at each interval."""
    segmenter, samples = Segmenter(AudioConfig(), "speech", 30.0), spoken(seconds, PAUSE_S, index)
    utterances, windows = list[tuple[float, float]](), list[tuple[float, float, float]]()
    block = RATE // 10
    for at in range(0, len(samples) + block, block):
        events = segmenter.push(samples[at : at + block]) if at < len(samples) else segmenter.flush()
        for event in events:
            if isinstance(event, Utterance):
                utterances.append((event.start / RATE, event.end / RATE))
            elif isinstance(event, Window):
                windows.append((event.start / RATE, event.end / RATE, min(seconds, (at + block) / RATE)))
    questions = tuple(ask_every_s * n for n in range(1, math.ceil(seconds / ask_every_s)))
    return Talk(seconds, tuple(utterances), tuple(windows), questions)


def seen(outcome: Outcome) -> dict[str, float]:
    """Return the figures of `bench.sessions` for simulated streams."""
    lags, first = outcome.lags_s, outcome.first_s
    timed = zip(first, outcome.answers, strict=True)
    answers = [(begun - waited, done, tokens) for waited, (begun, done, tokens) in timed]
    return {
        **({"final_lag_mean_s": sum(lags) / len(lags), "final_lag_p95_s": p95(lags)} if lags else {}),
        **({"ttft_mean_s": sum(first) / len(first), "ttft_p95_s": p95(first)} if first else {}),
        **({"tokens_a_second": tokens_a_second_of(answers)} if answers else {}),
    }


# ---- one engine ------------------------------------------------------------------------------------------------------


def engine(profile: Profile, size: Size) -> Figures:
    """Return how many streams an engine carries, by what bounds it, and what they see then."""
    by_kv = int(profile.memory / profile.kv_bytes)
    low, high = 0, 1
    while low < by_kv and carries(profile, high, size):
        low, high = high, min(2 * high, by_kv)
    while low < by_kv and high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (middle, high) if carries(profile, middle, size) else (low, middle)
    streams = max(1, low)
    outcome = simulated(profile, streams, size)
    return {
        "streams": streams,
        "streams_by_device": int(streams * BUSY / outcome.due) if low == by_kv else low,
        "streams_by_kv": by_kv,
        "kv_mb_a_session": profile.kv_bytes / 1e6,
        "saturates_first": "KV bytes" if low == by_kv else "device seconds",
        "device_busy": outcome.busy,
        "device_busy_without_partial_captions": outcome.due,
        **seen(outcome),
    }


def carries(profile: Profile, streams: int, size: Size) -> bool:
    """Return whether an engine serves so many streams in time."""
    outcome = simulated(profile, streams, size)
    late = p95(outcome.lags_s) if outcome.lags_s else 0.0
    first = p95(outcome.first_s) if outcome.first_s else 0.0
    return outcome.due <= BUSY and late <= FINAL_P95_S and first <= FIRST_P95_S


@cache
def simulated(profile: Profile, streams: int, size: Size) -> Outcome:
    """Simulate so many streams on an engine, which start at random moments of a question's interval."""
    rng, f = random.Random(SEED), figures()
    talks = [
        conversation(
            size.seconds, utterances_s(), f["stream.pause_s"], f["stream.ask_every_s"], rng, AudioConfig().window_min_s
        )
        for _ in range(streams)
    ]
    return run_engine(profile.times, talks, profile.asking, apart_s=AudioConfig().window_min_s / streams)


# ---- a cluster -------------------------------------------------------------------------------------------------------


def cluster(profile: Profile, on_engine: int, streams: int, size: Size) -> Figures:
    """Return what so many streams need, the load of what they share, and the cost of a thousand hours.

    A resource that is shared by all has a load: the share of it that is used, more than 1 if it does not suffice. The
    cluster is then divided into cells, each with a file server, a Ray head and gateways of its own.
    """
    f, rng = figures(), random.Random(SEED)
    sync_s = f["storage.commit_s"]
    engines = math.ceil(streams / max(1.0, HEADROOM * on_engine))
    on_gateway = min(f["gateway.share"] / f["gateway.cpu_s"], f["gateway.commit_delay_s"] / sync_s)
    gateways = math.ceil(streams / on_gateway)
    here = streams / gateways  # on a gateway
    syncs = streams / max(f["stream.message_s"], here * sync_s)
    loads = {
        "file server, synced writes": syncs / f["storage.syncs_s"],
        "file server, bytes": streams * f["stream.bytes_s"] / f["storage.bytes_s"],
        "Ray membership": (engines + gateways) / f["ray.nodes"],
        "links of a gateway": engines / f["link.pairs"],
        "links of an engine": gateways / f["link.pairs"],
        "network of a gateway": here * f["stream.bytes_s"] * (1 + f["network.wire_share"]) / f["network.bytes_s"],
    }
    first = max(loads, key=lambda name: loads[name])
    cells = max(1, math.ceil(max(loads.values()) / HEADROOM))
    loop = waits(
        here / f["stream.message_s"], lambda: f["gateway.cpu_s"] * f["stream.message_s"], 1, size.arrivals, rng
    )
    in_a_cell = syncs / cells
    server = waits(in_a_cell, lambda: sync_s, math.ceil(f["storage.syncs_s"] * sync_s), size.arrivals, rng)
    hours = 1_000 / streams  # of the whole cluster, for a thousand hours of streams
    stored_gb = 1_000 * 3_600 * f["stream.bytes_s"] * f["storage.kept_share"] / 1e9
    cost = {
        "engines": hours * engines * profile.dollars_h,
        "gateways": hours * gateways * f["gateway.dollars_h"],
        "journal": stored_gb * f["storage.dollars_gb_month"] * f["storage.retention_h"] / (30 * 24),
    }
    return {
        "engines": engines,
        "gateways": gateways,
        "streams_on_a_gateway": here,
        "load": loads,
        "saturates_first": first if loads[first] > HEADROOM else "none of what is shared",
        "cells": cells,
        "gateway_loop_wait_p95_s": p95(loop),
        "file_server_wait_p95_s": p95(server),
        "dollars_a_thousand_hours": {**cost, "all": sum(cost.values())},
    }


if __name__ == "__main__":
    main()
