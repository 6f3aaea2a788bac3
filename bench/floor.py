"""Compare decoding with its lower bound: the bytes that a token must read, over the memory bandwidth.

A token reads every weight of the language model and all earlier keys and values once. The bandwidth is measured in
between as that of a sum over memory much larger than any cache, with all threads. ``python -m bench.floor [--quick]``
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import torch

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.contract import Context, PromptPart
from af3stream.engine.encoded_audio import EncodedAudio
from bench.common import endless, loaded, mini, once, quick, report, speech

QUESTION: Final = "What was said about the young man?"
GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench: windows kept, tokens of an answer, bytes of memory summed, and repetitions."""

    windows: tuple[int, ...] = (1, 4)
    tokens: int = 64
    summed: int = GIB
    rounds: int = 5


QUICK: Final = Size((1,), 8, 64 << 20, 1)


def main(argv: list[str] | None = None) -> None:
    """Measure decoding over prefixes of several lengths, with the bandwidth before and after each."""
    size = QUICK if quick(__doc__, argv) else Size()
    plain, compiled = mini(), loaded("model.compile=true")
    for engine in (plain, compiled):
        endless(engine)
    report(
        "floor",
        weights_mb=weight_bytes(plain) / 1e6,
        by_windows={str(n): measure(plain, n, size) for n in size.windows},
        compiled_weights_mb=weight_bytes(compiled) / 1e6,
        compiled_by_windows={str(n): measure(compiled, n, size) for n in size.windows},
    )


def measure(engine: Af3Engine, windows: int, size: Size) -> dict[str, float]:
    """Measure tokens per second after ``windows`` windows, and the share of the bandwidth that they use."""
    audio = EncodedAudio()
    parts = list[PromptPart](audio.encode(engine, [speech(30.0)] * windows))
    context = engine.context(audio.embeddings)
    list(context.extend(parts))
    assert context._kept is not None
    position = context._kept.slot.nbytes // context._kept.slot.capacity
    device = engine._loaded.model.device
    taken, bandwidths = [], [bandwidth(size, device)]
    for _ in range(size.rounds):
        taken.append((written_in(context, parts, size.tokens + 1) - written_in(context, parts, 1)) / size.tokens)
        bandwidths.append(bandwidth(size, device))
    a_token, memory = min(taken), max(bandwidths)
    read = weight_bytes(engine) + position * (context.kept_tokens + size.tokens // 2)
    return {
        "tokens_a_second": 1 / a_token,
        "mb_a_token": read / 1e6,
        "read_gb_a_second": read / a_token / 1e9,
        "memory_gb_a_second": memory / 1e9,
        "share": read / a_token / memory,
    }


def written_in(context: Context, parts: list[PromptPart], tokens: int) -> float:
    """Return the seconds of an answer of ``tokens`` tokens."""
    return once(lambda: list(context.answer(parts, QUESTION, tokens)))


def bandwidth(size: Size, device: torch.device) -> float:
    """Return the bytes per second that a sum over a device's memory reads, at best."""
    memory = torch.ones(size.summed // 4, device=device)
    return memory.nbytes / min(once(memory.sum) for _ in range(3))


def weight_bytes(engine: Af3Engine) -> int:
    """Return the bytes of weights that a token reads: the language model, its head, and one row of the embeddings."""
    model = engine._loaded.model
    table, head = model.model.get_input_embeddings().weight, tensors(model.lm_head)
    layers = {key: tensor for key, tensor in tensors(model.model.language_model).items() if tensor is not table}
    return sum(tensor.nbytes for tensor in (layers | head).values())


def tensors(model: Any) -> dict[int, torch.Tensor]:
    """Yield parameters and buffers, each once."""
    return {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}


if __name__ == "__main__":
    main()
