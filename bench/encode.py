"""An encode at the cost of its length, against the padded 30 s encode; and four together against one by one.

``python -m bench.encode``
"""

from __future__ import annotations

import torch

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.contract import Samples
from bench.common import RATE, mini, report, speech, timed

RUNS = 5


def main() -> None:
    """Measure 3, 10 and 30 s, and a batch of four."""
    engine = mini()
    padded = timed(lambda: stock(engine, speech(3.0)), RUNS)
    seconds = {str(s): timed(lambda s=s: engine._encode([speech(s)]), RUNS) for s in (3, 10, 30)}  # type: ignore[misc]
    four = [speech(12.0), speech(10.0), speech(14.0), speech(9.0)]
    together = timed(lambda: engine._encode(four), RUNS)
    alone = timed(lambda: [engine._encode([window]) for window in four], RUNS)
    report(
        "encode",
        padded_s=padded,
        seconds=seconds,
        share_of_padded={length: took / padded for length, took in seconds.items()},
        four_together_s=together,
        four_one_by_one_s=alone,
        four_sooner=alone / together,
    )


@torch.inference_mode()
def stock(engine: Af3Engine, window: Samples) -> None:
    """transformers: the padded window through feature extractor, tower and projector."""
    loaded = engine._loaded
    extracted = loaded.processor.feature_extractor(
        window, sampling_rate=RATE, padding="max_length", return_attention_mask=True, return_tensors="pt"
    )
    loaded.model.get_audio_features(extracted["input_features"], extracted["attention_mask"])


if __name__ == "__main__":
    main()
