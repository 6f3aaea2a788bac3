"""What a session gives up when it falls behind, one step after the other; its audio never."""

from __future__ import annotations

from typing import Final

from af3stream.protocol.messages import Degraded, Level

DROP_INTERIMS_LAG_S: Final = 8.0  # finals this far behind get the device for themselves and for questions
LATE_FINALS_LAG_S: Final = 30.0  # more than an utterance: captions are no longer live


class LoadShedder:
    """Where a session stands, and what follows from it.

    Attributes:
        refusing: whether the server takes no new sessions; it is said so for all to know.
        level: the last step that was told.
    """

    def __init__(self) -> None:
        self.refusing = False
        self.level: Level = "none"
        self._lag_s = 0.0

    @property
    def drops_interims(self) -> bool:
        """Whether open utterances are not heard until finals have caught up."""
        return self._lag_s > DROP_INTERIMS_LAG_S

    def step(self, lag_s: float, *, stretched: bool) -> list[Degraded]:
        """Take the step that a lag asks for; tells it where it is another one."""
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
