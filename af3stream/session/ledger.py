"""Counts what became of every second of audio, and remembers when it arrived."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.protocol.messages import Ended
from af3stream.session.audio_receiver import AudioReceiver

REMEMBERED: Final = 4_096  # arrivals: more than two minutes of 30 ms messages


@dataclass(slots=True)
class Ledger:
    """Sums of one session: samples at 16 kHz, and counts."""

    heard: int = 0  # in windows
    skipped: int = 0  # in no window
    captioned: int = 0  # in utterances
    windows: int = 0
    utterances: int = 0

    def ended(self, receiver: AudioReceiver) -> Ended:
        """Return a session's last message: what became of all audio received."""
        return Ended(
            total=receiver.received,
            received_s=round(receiver.seconds(receiver.received), 3),
            heard_s=round(seconds(self.heard), 3),
            skipped_s=round(seconds(self.skipped), 3),
            lost_s=round(receiver.seconds(receiver.lost), 3),
            captioned_s=round(seconds(self.captioned), 3),
            windows=self.windows,
            utterances=self.utterances,
        )


class Arrivals:
    """When the newest samples arrived, for measuring delays."""

    def __init__(self) -> None:
        self._known: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def note(self, position: int, now: float) -> None:
        """Note that everything before ``position`` arrived by ``now``."""
        self._known.append((position, now))

    def at(self, position: int) -> float | None:
        """Return when the sample before ``position`` arrived; ``None`` if it did not, or too long ago."""
        i = bisect_left(self._known, (position, float("-inf")))
        return self._known[i][1] if i < len(self._known) else None


def seconds(position: int) -> float:
    """Return a position, or a number of samples at 16 kHz, in seconds."""
    return position / SAMPLE_RATE
