"""Measure encoding by the length of the audio, against padding to 30 s; and a batch of four against single windows.

The bench also prints how many cores a single window keeps busy. ``python -m bench.encode [--quick]``
"""

from __future__ import annotations

import time

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.captioning import Samples
from bench.common import mini, quick, report, speech, timed
from tests.engine.reference import projected


def main(argv: list[str] | None = None) -> None:
    """Measure 3, 10 and 30 s, and a batch of four."""
    runs = 1 if quick(__doc__, argv) else 5
    engine = mini()
    padded = timed(lambda: projected(engine._loaded, speech(3.0)), runs)
    seconds = {str(s): timed(lambda s=s: engine._encode([speech(s)]), runs) for s in (3, 10, 30)}  # type: ignore[misc]
    four = [speech(12.0), speech(10.0), speech(14.0), speech(9.0)]
    together = timed(lambda: engine._encode(four), runs)
    alone = timed(lambda: [engine._encode([window]) for window in four], runs)
    report(
        "encode",
        padded_s=padded,
        seconds=seconds,
        share_of_padded={length: took / padded for length, took in seconds.items()},
        four_together_s=together,
        four_one_by_one_s=alone,
        four_sooner=alone / together,
        cores_busy_with_one=busy(engine, four[0], runs),
    )


def busy(engine: Af3Engine, window: Samples, runs: int) -> float:
    """Return how many cores encoding a single window keeps busy: CPU time per second."""
    began, used = time.perf_counter(), time.process_time()
    for _ in range(runs):
        engine._encode([window])
    return (time.process_time() - used) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
