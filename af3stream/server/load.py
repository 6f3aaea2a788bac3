"""How much the house has to do, and whether one more session fits."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

from af3stream.config import ServerConfig

LOOKED_BACK_S: Final = 60.0
ENOUGH_AUDIO_S: Final = 10.0  # before what a second of it costs is known
_STATM: Final = Path("/proc/self/statm")  # Linux


@dataclass(frozen=True, slots=True)
class Done:
    """What was done up to a time.

    Attributes:
        at: clock seconds.
        device_s: seconds of the device, for what cannot be shed.
        audio_s: seconds of audio that were heard, or skipped.
    """

    at: float
    device_s: float
    audio_s: float


@dataclass(frozen=True, slots=True)
class Now:
    """How things stand.

    Attributes:
        sessions: admitted, and not gone.
        lags_s: of each session that has a connection.
        short_of_memory: a job has waited for keys, values or embeddings of others, and for long.
        storing: the journal, where there is one, takes audio.
        resident_bytes: of the process; 0 where that is not known.
    """

    sessions: int
    lags_s: Sequence[float]
    short_of_memory: bool
    storing: bool
    resident_bytes: int


class Load:
    """What the last minute says of the next session. A pure object: the time is in what it is told."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._done: deque[Done] = deque()
        self._cost = 0.0

    def note(self, done: Done) -> None:
        """Take a measurement, now and then."""
        self._done.append(done)
        while self._done[0].at < done.at - LOOKED_BACK_S:
            self._done.popleft()
        first = self._done[0]
        if (audio_s := done.audio_s - first.audio_s) >= ENOUGH_AUDIO_S:
            self._cost = (done.device_s - first.device_s) / audio_s

    @property
    def cost(self) -> float:
        """Seconds of the device that a second of audio takes, as last known; 0 before anything is."""
        return self._cost

    def overload(self, now: Now) -> str | None:
        """Why the sessions there are suffer already."""
        config = self._config
        if config.memory_mb and now.resident_bytes > config.memory_mb << 20:
            return "the server's memory is taken"
        if now.short_of_memory:
            return "the engine's memory is taken"
        if not now.storing:
            return "no room is left to store another session"
        if len(now.lags_s) > 1 and min(now.lags_s, default=inf) > config.admit_lag_s:
            return "every session is behind"
        return None

    def refusal(self, now: Now) -> str | None:
        """Why another session would be one too many; ``None`` where it fits, and for the first whatever it costs.

        A slow machine is behind with one session and says so; refused, it would never be measured anew.
        """
        busy = self._config.admit_busy
        if busy and now.sessions and (now.sessions + 1) * self._cost > busy:
            return "the engine has no time for another session"
        return self.overload(now)


def resident_bytes() -> int:
    """What the process takes of the machine's memory; 0 where the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
