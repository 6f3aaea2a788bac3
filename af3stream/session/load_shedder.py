"""Decides what a session gives up when it falls behind, step by step. It never gives up audio."""

from __future__ import annotations

from typing import Final

from af3stream.protocol.messages import Degraded, Level

DROP_INTERIMS_LAG_S: Final = 8.0  # beyond it, the device is left to final captions and questions
LATE_FINALS_LAG_S: Final = 30.0  # more than an utterance: captions are no longer live


class LoadShedder:
    """A session's lag, and what it gives up because of it.

    Attributes:
        refusing: whether the server takes no new sessions, which all clients are told.
        level: the step that the client was told last.
    """

    def __init__(self) -> None:
        self.refusing = False
        self.level: Level = "none"
        self._lag_s = 0.0

    @property
    def drops_interims(self) -> bool:
        """Whether there are no partial captions until final captions have caught up."""
        return self._lag_s > DROP_INTERIMS_LAG_S

    def step(self, lag_s: float, *, stretched: bool) -> list[Degraded]:
        """Take the step for a lag in seconds; returns the message about it if it is another one.

        Args:
            stretched: partial captions come less often than configured.
        """
        self._lag_s = lag_s
        level = self._due(stretched)
        if level == self.level:
            return []
        self.level = level
        return [Degraded(level, round(lag_s, 3))]

    def _due(self, stretched: bool) -> Level:
        if self.refusing:
            return "sessions_refused"
        if self._lag_s > LATE_FINALS_LAG_S:
            return "finals_late"
        if self.drops_interims:
            return "interims_dropped"
        return "interims_stretched" if stretched else "none"
