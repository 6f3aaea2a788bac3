"""Measure how long after its audio a caption is told."""

from __future__ import annotations

from collections.abc import Sequence

from af3stream.audio import SAMPLE_RATE
from af3stream.metrics import Metrics
from af3stream.protocol.messages import Caption, CaptionUpdate
from af3stream.session.ledger import Arrivals


class CaptionDelays:
    """The time from the arrival of audio to its captions.

    Attributes:
        now: clock seconds when audio arrived last.

    Args:
        pad: samples at 16 kHz that an utterance has after its last voiced frame.
    """

    def __init__(self, pad: int, metrics: Metrics) -> None:
        self.now = 0.0
        self._pad = pad
        self._metrics = metrics
        self._arrivals = Arrivals()

    def arrived(self, position: int, now: float) -> None:
        """Note that all audio before a position arrived by ``now``."""
        self.now = now
        self._arrivals.note(position, now)

    def arrival(self, position: int) -> float | None:
        """Return when the sample at a position arrived; ``None`` if that was before a restart, or too long ago."""
        return self._arrivals.at(position + 1)

    def observed(self, captions: Sequence[Caption | CaptionUpdate], now: float) -> Sequence[Caption | CaptionUpdate]:
        """Observe captions that are told ``now``; returns them."""
        for caption in captions:
            end = round(caption.end * SAMPLE_RATE)
            if isinstance(caption, CaptionUpdate) or (arrived := self._arrivals.at(end)) is None:
                continue
            self._metrics.word_delay.labels("final" if caption.final else "interim").observe(now - arrived)
            if caption.final:
                self._metrics.final_delay.observe(now - (self._arrivals.at(end - self._pad) or arrived))
        return captions
