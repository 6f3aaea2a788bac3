"""Encode audio for contexts that no worker drives: measurements, evaluation and tests."""

from __future__ import annotations

from collections.abc import Sequence

from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, Embeddings, Engine


class EncodedAudio:
    """Windows one after the other, with their samples and embeddings. Nothing is evicted.

    `embeddings` is what `Engine.context` takes. Implements `af3stream.engine.contract.AudioSource`, too.
    """

    rereads = True

    def __init__(self) -> None:
        self._windows: dict[AudioSegment, tuple[Samples, Embeddings]] = {}
        self._end = 0

    def encode(self, engine: Engine, windows: Sequence[Samples]) -> list[AudioSegment]:
        """Encode windows, float32 (n,) at 16 kHz each; returns a segment for each."""
        encoded = engine.encode(windows)
        return [
            self._add(samples, engine.tokens.frames(len(samples)), embeddings)
            for samples, embeddings in zip(windows, encoded, strict=True)
        ]

    def repeat(self, segment: AudioSegment, times: int) -> list[AudioSegment]:
        """Return so many further segments with the same audio, without encoding it again."""
        samples, embeddings = self._windows[segment]
        return [self._add(samples, segment.tokens, embeddings) for _ in range(times)]

    def embeddings(self, segment: AudioSegment) -> Embeddings:
        """Return a segment's embeddings, in the engine's own form."""
        return self._windows[segment][1]

    def fetch(self, segments: Sequence[AudioSegment]) -> int:
        """All are here."""
        return len(segments)

    def read(self, segment: AudioSegment) -> Samples:
        """Return a segment's samples, float32 (n,)."""
        return self._windows[segment][0]

    def _add(self, samples: Samples, tokens: int, embeddings: Embeddings) -> AudioSegment:
        segment = AudioSegment(self._end, self._end + len(samples), tokens)
        self._end = segment.end
        self._windows[segment] = samples, embeddings
        return segment
