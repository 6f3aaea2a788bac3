"""Compute the delay before each attempt to connect, and when to give up. No clock, no random numbers."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.2
LONGEST_S: Final = 10.0
STEADY_S: Final = 10.0  # after a connection that lasted this long, the delays start again


def delay_s(attempt: int, chance: float, retry_after_s: float = 0.0) -> float:
    """Return the seconds to wait: exponential backoff with full jitter, added to the delay that the server asked for.

    Args:
        attempt: number of the attempt, from 0.
        chance: a random number from 0 to 1, drawn for each attempt.
        retry_after_s: seconds that the server asked for. The jitter keeps clients with the same value apart.
    """
    return retry_after_s + chance * min(LONGEST_S, FIRST_S * 2.0 ** min(attempt, 32))


class Backoff:
    """Track the attempts of one session to connect. ``now`` is in seconds of a monotonic clock.

    A connection that ends within ``STEADY_S`` and brought no progress counts as a failed attempt.
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
        """Note that the connection is lost; ``progress`` is any value that changes as the session advances."""
        steady = self._opened_at is not None and now - self._opened_at >= STEADY_S
        if steady or progress != self._progress:
            self._attempt = 0
        self._progress = progress
        self._give_up_at = now + self.give_up_after_s

    def next_delay_s(self, now: float, chance: float, retry_after_s: float = 0.0) -> float | None:
        """Return the seconds before the next attempt, or ``None`` if it is time to give up."""
        delay = delay_s(self._attempt, chance, retry_after_s)
        self._attempt += 1
        return delay if now + delay < self._give_up_at else None
