"""Limits the rate of requests: a token bucket. Pure: the time is an argument."""

from __future__ import annotations

from typing import Final

from af3stream.errors import QueryLimit

BURST_S: Final = 10.0  # requests of so many seconds may come at once


class RateLimiter:
    """Allows ``per_s`` requests a clock second on average, and bursts."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, BURST_S * per_s)
        self._left = self._most
        self._at: float | None = None

    def spend(self, ref: str | None, now: float) -> None:
        """Count one request.

        Raises:
            QueryLimit: if there were too many, with the time after which another is allowed.
        """
        if self._at is not None:
            self._left = min(self._most, self._left + self._per_s * (now - self._at))
        self._at = now
        if self._left < 1:
            wait_ms = round(1_000 * (1 - self._left) / self._per_s)
            raise QueryLimit(f"at most {self._per_s:g} requests a second", ref=ref, retry_after_ms=wait_ms)
        self._left -= 1
