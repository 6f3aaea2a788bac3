"""Time to first token of a question over a full horizon, against transformers over the same windows.

Named alternatives, in the same run: `generate` from the audio (encode and prefill), and the language model given the
embeddings ready (prefill only). ``python -m bench.question [windows]``
"""

from __future__ import annotations

import sys

import torch
from transformers import DynamicCache

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.contract import Part, Sound
from bench.common import RATE, first_token, mini, report, speech, timed

QUESTION = "What was said about the young man?"
OPEN_S = 10
RUNS = 1


def main() -> None:
    """Measure at 1 window and at the full horizon."""
    engine = mini()
    full = int(sys.argv[1]) if len(sys.argv) > 1 else engine.capacity.windows
    figures = {str(windows): measure(engine, windows) for windows in (1, full)}
    for windows, row in figures.items():
        print(windows, row)
    at_full = figures[str(full)]
    report(
        "question",
        windows=full,
        ttft_s=at_full,
        sooner_than_generate=at_full["generate"] / at_full["kept"],
        sooner_than_generate_with_10s_open=at_full["generate_open"] / at_full["open"],
        sooner_than_prefill=at_full["prefill"] / at_full["kept"],
        sooner_than_prefill_with_10s_open=at_full["prefill_open"] / at_full["open"],
        growth_from_one_window=at_full["kept"] / figures["1"]["kept"],
    )


def measure(engine: Af3Engine, windows: int) -> dict[str, float]:
    """Seconds to the first token, ours and the alternatives'."""
    audio = [speech(30.0)] * windows
    tail = speech(OPEN_S)
    parts: list[Part] = [Sound(samples, engine.frames(len(samples))) for samples in audio]
    engine.encode([part for part in parts if isinstance(part, Sound)])
    context = engine.context()
    list(context.extend(parts))

    def with_open() -> None:
        sound = Sound(tail, engine.frames(len(tail)))
        engine.encode([sound])
        first_token(context, [*parts, sound], QUESTION)

    return {
        "kept": timed(lambda: first_token(context, parts, QUESTION), 5),
        "open": timed(with_open, RUNS),
        "generate": timed(lambda: engine_generate(engine, audio), RUNS),
        "generate_open": timed(lambda: engine_generate(engine, [*audio, tail]), RUNS),
        "prefill": timed(lambda: prefill(engine, audio), RUNS),
        "prefill_open": timed(lambda: prefill(engine, [*audio, tail]), RUNS),
    }


def inputs(engine: Af3Engine, audio: list) -> dict[str, torch.Tensor]:
    """What transformers is given: token ids with a placeholder a frame, and padded features."""
    loaded = engine._loaded
    sounds = loaded.processor.audio_token * sum(engine.frames(len(window)) for window in audio)
    ids = engine._fusion.prompt(sounds + QUESTION, loaded.processor.audio_token, loaded.model.config.audio_token_id)
    extracted = loaded.processor.feature_extractor(
        audio, sampling_rate=RATE, padding="max_length", return_attention_mask=True, return_tensors="pt"
    )
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "input_features": extracted["input_features"],
        "input_features_mask": extracted["attention_mask"],
    }


def engine_generate(engine: Af3Engine, audio: list) -> None:
    """transformers: encode, prefill and write one token."""
    engine._loaded.model.generate(**inputs(engine, audio), max_new_tokens=1, do_sample=False)


@torch.inference_mode()
def prefill(engine: Af3Engine, audio: list) -> None:
    """transformers' language model over embeddings of the same length, ready made."""
    model = engine._loaded.model
    ids = torch.ones(1, sum(engine.frames(len(w)) for w in audio) + 24, dtype=torch.long)
    embeddings = model.model.get_input_embeddings()(ids)
    output = model.model.language_model(inputs_embeds=embeddings, past_key_values=DynamicCache(), use_cache=True)
    model.lm_head(output.last_hidden_state[:, -1]).argmax(-1)


if __name__ == "__main__":
    main()
