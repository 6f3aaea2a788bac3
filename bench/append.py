"""What appending a window costs as the session grows, and what a decoded token copies. ``python -m bench.append``"""

from __future__ import annotations

import statistics
import time

from af3stream.engine.contract import Part, Sound
from bench.common import mini, report, speech

ROUNDS = 3


def main() -> None:
    """Append windows up to the horizon, and time each."""
    engine = mini()
    windows = engine.capacity.windows
    costs: list[list[float]] = [[] for _ in range(windows)]
    for _ in range(ROUNDS):
        context, parts = engine.context(), list[Part]()
        for i in range(windows):
            sound = Sound(speech(30.0), engine.frames(30 * 16_000))
            engine.encode([sound])
            parts.append(sound)
            began = time.perf_counter()
            list(context.extend(parts))
            costs[i].append(time.perf_counter() - began)
    medians = [statistics.median(cost) for cost in costs]
    slot = context._kept.slot if context._kept else None
    assert slot is not None
    report(
        "append",
        windows=windows,
        seconds=medians,
        last_over_second=medians[-1] / medians[1],
        bytes_written_a_token=slot.nbytes // slot.capacity,
        bytes_a_concatenating_cache_copies_a_token_at_the_end=slot.nbytes // slot.capacity * slot.length,
    )


if __name__ == "__main__":
    main()
