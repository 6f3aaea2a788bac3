"""Transcribe many short recordings with Whisper base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.whisper import Decoded
from af3stream.models import mini
from af3stream.models.mini import recipe
from training.voices import Samples

BATCH: Final = 12  # recordings in a batch
PAD_S, LEAST_S = 2.0, 7.0  # padding after each, and the shortest input; a shorter one makes Whisper loop
MOST_TOKENS: Final = 128

Item = TypeVar("Item")


class Writer:
    """Transcribes greedily, without checks of the result.

    Args:
        threads: number of CPU threads.
    """

    def __init__(self, threads: int) -> None:
        from faster_whisper import WhisperModel

        folder = mini.assemble(print) / recipe.CAPTIONER
        self._whisper = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads)
        names = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
        self._prompt = [self._whisper.hf_tokenizer.token_to_id(name) for name in names]

    def write(self, recordings: Sequence[Samples]) -> list[Decoded]:
        """Transcribe recordings, (n,) at 16 kHz each."""
        places = sorted(range(len(recordings)), key=lambda place: len(recordings[place]))
        found: dict[int, Decoded] = {}
        for batch in chunks(places, BATCH):
            found |= zip(batch, self._together([recordings[place] for place in batch]), strict=True)
        return [found[place] for place in range(len(recordings))]

    def _together(self, recordings: Sequence[Samples]) -> list[Decoded]:
        from ctranslate2 import StorageView

        longest = int(max(LEAST_S, max(map(len, recordings)) / SAMPLE_RATE + PAD_S) * SAMPLE_RATE)
        mels = [self._whisper.feature_extractor(np.pad(r, (0, longest - len(r))), padding=0) for r in recordings]
        encoded = self._whisper.model.encode(StorageView.from_array(np.stack(mels).astype(np.float32)))
        options: dict[str, Any] = {"beam_size": 1, "return_scores": True, "return_no_speech_prob": True}
        results = self._whisper.model.generate(encoded, [self._prompt] * len(mels), max_length=MOST_TOKENS, **options)
        return [Decoded.of(result, self._whisper.hf_tokenizer) for result in results]


def chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Split items into chunks of ``size``."""
    return [items[at : at + size] for at in range(0, len(items), size)]
