"""Run sessions under faults: random histories of cuts, stalls, kills and restarts, each checked to the last sample.

``python -m bench.chaos [--cluster | --ray] --histories 300 --seed 1`` runs them one after another: on one server
(``tests.chaos.histories``), on two gateways and three engines (``tests.chaos.cluster``), or on those of a Ray cluster
with three nodes (``tests.chaos.ray``). If one fails, it is shrunk, if not on Ray, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from bench.common import report
from tests.chaos import cluster, ray
from tests.chaos import histories as histories_on_a_server
from tests.chaos.histories import History, Speak, cluster_histories, histories
from tests.chaos.processes import forking

LEAST, MOST = 10, 40  # steps in a history
MOST_ON_RAY = 12  # there a step may take seconds


def main() -> None:
    """Run the histories, and print a summary."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--histories", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=1)
    where = arguments.add_mutually_exclusive_group()
    where.add_argument("--cluster", action="store_true", help="two gateways and three engines")
    where.add_argument("--ray", action="store_true", help="the same in a Ray cluster of three nodes")
    options = arguments.parse_args()
    place = "ray" if options.ray else "cluster" if options.cluster else "server"
    more: tuple[SearchStrategy[Any], ...] = {"ray": ray.STEPS, "cluster": cluster.STEPS}.get(place, ())
    most = MOST_ON_RAY if options.ray else MOST
    played: list[History] = []

    @seed(options.seed)
    @settings(
        max_examples=options.histories,
        database=None,
        deadline=None,
        phases=(Phase.generate,) if options.ray else (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(history=cluster_histories(LEAST, most, more) if more else histories(LEAST, MOST))
    def live(history: History) -> None:
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
            try:
                asyncio.run(play(history, Path(folder)))
            except BaseException as error:
                print(f"failed with {error!r}:\n{history}", file=sys.stderr, flush=True)
                raise
        played.append(history)
        if len(played) % 25 == 0:
            print(f"{len(played)} histories", file=sys.stderr, flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that every process that was started is stopped
    began, failed = time.monotonic(), False
    try:
        with playing(place) as play:
            live()
    except Exception:  # noqa: BLE001 - a history may fail with any error
        failed = True
        traceback.print_exc()
    steps = [step for history in played for step in history.steps]
    report(
        "chaos",
        histories=len(played),
        seed=options.seed,
        place=place,
        failed=failed,
        steps=dict(Counter(type(step).__name__.lower() for step in steps)),
        audio_s=sum(step.ms for step in steps if isinstance(step, Speak)) / 1_000,
        took_s=time.monotonic() - began,
    )
    sys.exit(failed)


@contextmanager
def playing(place: str) -> Iterator[Callable[[History, Path], Coroutine[Any, Any, None]]]:
    """Return what plays a history in a folder, while the context lasts."""
    match place:
        case "ray":
            with ray.ray_cluster_of_three() as started:
                yield lambda history, folder: ray.play(history, folder, started)
        case "cluster":
            with forking() as forks:
                yield lambda history, folder: cluster.play(history, folder, forks)
        case _:
            with forking() as forks:
                yield lambda history, folder: histories_on_a_server.play(history, folder, forks)


if __name__ == "__main__":
    main()
