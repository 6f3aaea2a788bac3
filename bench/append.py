"""Measure the cost of appending a window as the session grows, against transformers with its own cache.

Exact attention reads the whole prefix, so the cost grows with it. The bench prints the growth by arithmetic, the
measured growth, and the bytes that each copies. ``python -m bench.append [--quick]``
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.kv import CACHE_ARGUMENT
from af3stream.engine.contract import AudioSegment, Embeddings, PromptPart
from af3stream.engine.encoded_audio import EncodedAudio
from bench.arithmetic import operations, positions
from bench.common import mini, once, quick, report, speech

WINDOW_S = 30


def main(argv: list[str] | None = None) -> None:
    """Append windows until the context window is full, and time each."""
    small = quick(__doc__, argv)
    engine = mini()
    windows = 3 if small else engine.capacity.windows
    audio = EncodedAudio()
    (sound,) = audio.encode(engine, [speech(WINDOW_S)])
    rounds = [ours(engine, audio, sound, windows) for _ in range(1 if small else 2)]
    costs = [statistics.median(costs) for costs in zip(*(round_costs for round_costs, _, _ in rounds), strict=True)]
    _, copied, moved = rounds[0]
    stock_costs, stock_copied = stock(engine, audio.embeddings(sound), windows)
    needed = [operations(engine, sound.tokens, positions(engine, i)) for i in range(windows)]
    measured, arithmetic = costs[-1] / costs[1], needed[-1] / needed[1]
    print(f"window {windows} over window 2: measured {measured:.2f}, by arithmetic {arithmetic:.2f}")
    report(
        "append",
        windows=windows,
        seconds=costs,
        last_over_second=measured,
        last_over_second_by_arithmetic=arithmetic,
        measured_over_arithmetic=measured / arithmetic,
        giga_operations_a_second=[need / cost / 1e9 for need, cost in zip(needed, costs, strict=True)],
        transformers_seconds=stock_costs,
        last_sooner_than_transformers=stock_costs[-1] / costs[-1],
        bytes_copied_a_token=copied,
        bytes_transformers_copies_a_token=stock_copied,
        keys_and_values_moved=moved,
    )


def ours(
    engine: Af3Engine, audio: EncodedAudio, sound: AudioSegment, windows: int
) -> tuple[list[float], list[float], bool]:
    """Return the seconds and the copied bytes per token of each window, and whether the KV cache was ever moved."""
    context, parts = engine.context(audio.embeddings), list[PromptPart]()
    list(context.extend([]))
    assert context._kept is not None
    slot = context._kept.slot
    costs, copied, places = [], [], set()
    for _ in range(windows):
        parts += audio.repeat(sound, 1)
        before = slot.copied
        costs.append(once(partial(list, context.extend(parts))))
        copied.append((slot.copied - before) / sound.tokens)
        places.add(tuple(layer.keys.data_ptr() for layer in slot.layers))
    return costs, copied, len(places) > 1


@torch.inference_mode()
def stock(engine: Af3Engine, encoded: Embeddings, windows: int) -> tuple[list[float], list[float]]:
    """Measure transformers with `DynamicCache`, one window a pass: seconds, and copied bytes per token."""
    model, kept = engine._loaded.model.model.language_model, {CACHE_ARGUMENT: DynamicCache()}
    assert isinstance(encoded, torch.Tensor)
    embeddings, copied = encoded.to(model.device), [0]
    update = DynamicLayer.update

    def counted(layer: Any, *args: Any, **kwargs: Any) -> Any:
        keys, values = update(layer, *args, **kwargs)
        copied[0] += keys.nbytes + values.nbytes  # concatenated again
        return keys, values

    model(inputs_embeds=engine._fusion.head()[None], use_cache=True, **kept)
    costs, each = [], []
    with patch.object(DynamicLayer, "update", counted):
        for _ in range(windows):
            before = copied[0]
            costs.append(once(lambda: model(inputs_embeds=embeddings[None], use_cache=True, **kept)))
            each.append((copied[0] - before) / len(embeddings))
    return costs, each


if __name__ == "__main__":
    main()
