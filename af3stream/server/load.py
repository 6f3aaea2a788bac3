"""Estimate the load of the service, and decide whether another session fits."""

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
ENOUGH_AUDIO_S: Final = 10.0  # audio needed before the cost is estimated
_STATM: Final = Path("/proc/self/statm")  # Linux


@dataclass(frozen=True, slots=True)
class Done:
    """The work done up to a time.

    Attributes:
        at: clock seconds.
        device_s: device seconds of work that cannot be shed.
        audio_s: seconds of audio that were processed or skipped.
    """

    at: float
    device_s: float
    audio_s: float


@dataclass(frozen=True, slots=True)
class Now:
    """The current state of the service.

    Attributes:
        sessions: number of admitted sessions.
        lags_s: lag of each session that has a connection.
        short_of_memory: a job has waited long for KV cache or embeddings of other sessions.
        storing: the journal accepts audio, or there is none.
        resident_bytes: resident memory of the process; 0 if it is unknown.
        engines: engines that share the sessions.
    """

    sessions: int
    lags_s: Sequence[float]
    short_of_memory: bool
    storing: bool
    resident_bytes: int
    engines: int = 1


class Load:
    """Estimate from the last minute whether another session fits. It has no clock: callers pass in the time."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._done: deque[Done] = deque()
        self._cost = 0.0

    def note(self, done: Done) -> None:
        """Add a measurement; called periodically."""
        self._done.append(done)
        while self._done[0].at < done.at - LOOKED_BACK_S:
            self._done.popleft()
        first = self._done[0]
        if (audio_s := done.audio_s - first.audio_s) >= ENOUGH_AUDIO_S:
            self._cost = (done.device_s - first.device_s) / audio_s

    @property
    def cost(self) -> float:
        """Device seconds per second of audio, as last measured; 0 before the first measurement."""
        return self._cost

    @property
    def most_sessions(self) -> float:
        """How many sessions an engine has time for; infinite before the first measurement."""
        busy = self._config.admit_busy
        return busy / self._cost if busy and self._cost else inf

    def overload(self, now: Now) -> str | None:
        """Return why the current sessions are overloaded, or ``None``."""
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
        """Return why another session does not fit, or ``None`` if it does. The first session always fits.

        If a slow machine refused its first session, its speed could not be measured again.
        """
        if now.sessions and now.sessions + 1 > self.most_sessions * now.engines:
            return "the engine has no time for another session"
        return self.overload(now)


def resident_bytes() -> int:
    """Return the resident memory of the process in bytes; 0 if the system does not report it."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
