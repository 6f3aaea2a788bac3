"""Measure the time to first token over a full context window, against transformers over the same windows.

The alternatives run in the same process: `generate` from the audio (encode and prefill), and the language model over
ready embeddings (prefill only). `mini` reads ten windows; a tiny checkpoint with random weights reads twenty.
``python -m bench.question [--quick]``
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from transformers import DynamicCache

from af3stream.engine.af3.context import PrefixContext
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.kv import CACHE_ARGUMENT
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, PromptPart
from af3stream.engine.encoded_audio import EncodedAudio
from bench.arithmetic import operations, positions
from bench.common import first_token, loaded, mini, once, quick, report, speech, timed
from tests.checkpoints import make_tiny
from tests.engine import reference

QUESTION: Final = "What was said about the young man?"
OPEN_S: Final = 10
WINDOW_S: Final = 30
WINDOWS: Final = 10
AUDIO: Final = EncodedAudio()


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench: windows kept, and repetitions. The alternatives run once, after a warm-up with one window."""

    windows: int
    ours: int = 5
    tiny: int = 20


def main(argv: list[str] | None = None) -> None:
    """Measure at 1 window and at a full context window."""
    small = quick(__doc__, argv)
    engine = mini()
    size = Size(2, 1, 2) if small else Size(WINDOWS)
    kept = context_of(engine, size.windows)
    one, full = measure(engine, context_of(engine, 1), size.ours), measure(engine, kept, size.ours)
    asked = len(engine._fusion.question(QUESTION))
    growth = full["kept"] / one["kept"]
    needed = [operations(engine, asked, positions(engine, windows)) for windows in (1, size.windows)]
    print(f"growth from 1 window to {size.windows}: measured {growth:.2f}, by arithmetic {needed[1] / needed[0]:.2f}")
    report(
        "question",
        windows=size.windows,
        ttft_s=full,
        ttft_s_one_window=one,
        sooner_than_generate=full["generate"] / full["kept"],
        sooner_than_generate_with_10s_open=full["generate_open"] / full["open"],
        sooner_than_prefill=full["prefill"] / full["kept"],
        sooner_than_prefill_with_10s_open=full["prefill_open"] / full["open"],
        growth_from_one_window=growth,
        growth_by_arithmetic=needed[1] / needed[0],
        growth_over_arithmetic=growth / (needed[1] / needed[0]),
        shares=shares(engine, kept, size.ours),
        tiny=tiny(size),
    )


def tiny(size: Size) -> dict[str, float]:
    """Measure over more windows, with a tiny checkpoint that supports them."""
    with tempfile.TemporaryDirectory() as folder:
        make_tiny(Path(folder), positions=16_384)
        engine = loaded(f"model.name={folder}", "captions.captioner=af3")
        return {"windows": size.tiny, **measure(engine, context_of(engine, size.tiny), size.ours)}


def measure(engine: Af3Engine, kept: tuple[PrefixContext, list[PromptPart]], runs: int) -> dict[str, float]:
    """Return the seconds to the first token, for the engine and the alternatives."""
    context, parts = kept
    audio, tail = [speech(WINDOW_S)] * len(parts), speech(OPEN_S)
    return {
        "kept": timed(lambda: first_token(context, parts, QUESTION), runs),
        "open": timed(lambda: first_token(context, [*parts, opened(engine, tail)], QUESTION), runs),
        "generate": once(lambda: generate(engine, audio)),
        "generate_open": once(lambda: generate(engine, [*audio, tail])),
        "prefill": once(lambda: prefill(engine, audio)),
        "prefill_open": once(lambda: prefill(engine, [*audio, tail])),
    }


def context_of(engine: Af3Engine, windows: int) -> tuple[PrefixContext, list[PromptPart]]:
    """Return a context with ``windows`` windows in its prefix, and the windows."""
    (sound,) = AUDIO.encode(engine, [speech(WINDOW_S)])
    parts = list[PromptPart](AUDIO.repeat(sound, windows))
    context = engine.context(AUDIO.embeddings)
    list(context.extend(parts))
    return context, parts


def opened(engine: Af3Engine, samples: Samples) -> AudioSegment:
    """Encode a piece of audio."""
    (sound,) = AUDIO.encode(engine, [samples])
    return sound


def shares(engine: Af3Engine, kept: tuple[PrefixContext, list[PromptPart]], runs: int) -> dict[str, float]:
    """Return the shares of the time to first token with 10 s open: encoding, reading, and choosing the token."""
    context, parts = kept
    took = {"encode": 0.0, "prefill": 0.0, "decode": 0.0}
    for _ in range(runs):
        began = time.perf_counter()
        sound = opened(engine, speech(OPEN_S))
        encoded = time.perf_counter()
        answer = context.answer([*parts, sound], QUESTION, 1)
        read = encoded
        for _ in answer:
            if answer.reply:  # the token was chosen
                break
            read = time.perf_counter()
        took["encode"] += encoded - began
        took["prefill"] += read - encoded
        took["decode"] += time.perf_counter() - read
        answer.close()
    return {step: each / sum(took.values()) for step, each in took.items()}


def inputs(engine: Af3Engine, audio: list[Samples]) -> dict[str, torch.Tensor]:
    """Return the input of transformers: token ids with a placeholder for each frame, and padded features."""
    loaded = engine._loaded
    sounds = loaded.processor.audio_token * sum(engine.tokens.frames(len(window)) for window in audio)
    ids = engine._fusion.prompt(sounds + QUESTION, loaded.processor.audio_token, loaded.model.config.audio_token_id)
    input_ids = torch.tensor([ids], device=loaded.model.device)
    features = reference.features(loaded, audio)
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), **features}


def generate(engine: Af3Engine, audio: list[Samples]) -> None:
    """Run transformers' `generate`: encode, prefill and decode one token."""
    engine._loaded.model.generate(**inputs(engine, audio), max_new_tokens=1, do_sample=False)


@torch.inference_mode()
def prefill(engine: Af3Engine, audio: list[Samples]) -> None:
    """Run transformers' language model over ready embeddings of the same length."""
    model = engine._loaded.model
    asked = len(engine._fusion.head()) + len(engine._fusion.question(QUESTION))
    ids = torch.ones(
        1, sum(engine.tokens.frames(len(window)) for window in audio) + asked, dtype=torch.long, device=model.device
    )
    embeddings = model.model.get_input_embeddings()(ids)
    output = model.model.language_model(inputs_embeds=embeddings, use_cache=True, **{CACHE_ARGUMENT: DynamicCache()})
    model.lm_head(output.last_hidden_state[:, -1]).argmax(-1)


if __name__ == "__main__":
    main()
