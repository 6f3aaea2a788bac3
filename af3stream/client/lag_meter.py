"""The lag of captions behind speech. No clock, no socket."""

from __future__ import annotations

from math import inf
from typing import Final

from af3stream.protocol.messages import Ack, Caption, Ready, ServerMessage, Speech

DUE_S: Final = 1.0  # an utterance's last caption may end so much before its speech does


class LagMeter:
    """Push in what the server says, pull out ``seconds``.

    It is what a person sees: speech that was captured and has no caption yet. Silence is never behind.
    """

    def __init__(self) -> None:
        self._rate = 16_000  # Hz
        self._waiting: list[list[float]] = []  # speech without all of its captions: from, to; the open one to infinity
        self._shown_s = 0.0  # up to where speech has its captions

    def hear(self, message: ServerMessage) -> None:
        """Process one message of the server."""
        match message:
            case Ready():
                self._rate = message.rate
            case Speech(state="started"):
                self._waiting.append([message.at, inf])
            case Speech() if self._waiting:
                self._waiting[-1][1] = message.at
            case Caption():
                self._shown_s = max(self._shown_s, message.end)
            case Ack():
                self._shown_s = max(self._shown_s, message.processed / self._rate)
        while self._waiting and self._waiting[0][1] <= self._shown_s + DUE_S:
            del self._waiting[0]

    def seconds(self, captured_s: float) -> float:
        """Seconds since the oldest speech without a caption, where ``captured_s`` were captured so far."""
        return max(0.0, captured_s - max(self._waiting[0][0], self._shown_s)) if self._waiting else 0.0
