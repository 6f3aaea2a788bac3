"""An engine whose words and embeddings name the very samples it was given."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from af3stream.engine.captioning import CaptionRequest, Hypothesis, Samples
from af3stream.engine.contract import Embeddings
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedEngine


def named(samples: Samples) -> str:
    return sha256(samples.tobytes()).hexdigest()[:12]


class Hashing(ScriptedEngine):
    """Answers name the samples of every window."""

    def __init__(self) -> None:
        super().__init__()
        self.captioner = HashingCaptioner(self.counters)

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        super().encode(windows)
        return [named(samples) for samples in windows]


class HashingCaptioner(ScriptedCaptioner):
    def hear(self, request: CaptionRequest) -> Hypothesis:
        super().hear(request)
        return Hypothesis(named(request.samples))
