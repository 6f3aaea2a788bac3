"""Where every second went, and when it came."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.protocol.messages import Ended
from af3stream.session.audio_receiver import AudioReceiver

REMEMBERED: Final = 4_096  # arrivals; more than two minutes of 30 ms messages


@dataclass(slots=True)
class Ledger:
    """Sums of one session, in samples at 16 kHz and counts."""

    heard: int = 0  # given to the language model in windows
    skipped: int = 0  # left out of every window
    captioned: int = 0  # in utterances
    windows: int = 0
    utterances: int = 0

    def ended(self, intake: AudioReceiver) -> Ended:
        """The last message: what became of everything that was taken in."""
        return Ended(
            total=intake.received,
            received_s=round(intake.seconds(intake.received), 3),
            heard_s=round(seconds(self.heard), 3),
            skipped_s=round(seconds(self.skipped), 3),
            lost_s=round(intake.seconds(intake.lost), 3),
            captioned_s=round(seconds(self.captioned), 3),
            windows=self.windows,
            utterances=self.utterances,
        )


class Arrivals:
    """When each sample arrived, as far back as a delay may be asked for."""

    def __init__(self) -> None:
        self._known: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def note(self, position: int, now: float) -> None:
        """Everything before ``position`` has arrived by ``now``."""
        self._known.append((position, now))

    def at(self, position: int) -> float | None:
        """When the sample before ``position`` arrived; ``None`` where it has not, or too long ago."""
        i = bisect_left(self._known, (position, float("-inf")))
        return self._known[i][1] if i < len(self._known) else None


def seconds(position: int) -> float:
    """A position, or a number of samples, as seconds of audio."""
    return position / SAMPLE_RATE
