"""The delay before the next attempt to connect, and when to give up. No clock, no random numbers."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.2
LONGEST_S: Final = 10.0
STEADY_S: Final = 10.0  # a connection that lasted as long was a good one


def delay_s(attempt: int, chance: float, retry_after_s: float = 0.0) -> float:
    """Exponential backoff with full jitter, on top of what the server asked for.

    Args:
        attempt: counted from 0.
        chance: 0 to 1, drawn anew for every attempt.
        retry_after_s: from the server; clients that were told the same do not come back together.
    """
    return retry_after_s + chance * min(LONGEST_S, FIRST_S * 2.0 ** min(attempt, 32))


class Backoff:
    """The attempts of one session, at moments ``now`` in seconds of a clock that never goes back.

    A connection that brought nothing new and did not last counts as one more attempt that failed.
    """

    def __init__(self, give_up_after_s: float) -> None:
        self.give_up_after_s = give_up_after_s
        self._attempt = 0
        self._opened_at: float | None = None
        self._progress: object = None
        self._give_up_at = 0.0

    def opened(self, now: float) -> None:
        """Note that a connection is open."""
        self._opened_at = now

    def lost(self, now: float, progress: object) -> None:
        """Note that it is lost; ``progress`` is any value that changes as the session advances."""
        steady = self._opened_at is not None and now - self._opened_at >= STEADY_S
        if steady or progress != self._progress:
            self._attempt = 0
        self._progress = progress
        self._give_up_at = now + self.give_up_after_s

    def next_delay_s(self, now: float, chance: float, retry_after_s: float = 0.0) -> float | None:
        """Return the seconds before the next attempt, or ``None`` if it would come too late."""
        delay = delay_s(self._attempt, chance, retry_after_s)
        self._attempt += 1
        return delay if now + delay < self._give_up_at else None
