"""Measure how far captions are behind speech. No clock, no socket."""

from __future__ import annotations

from math import inf
from typing import Final

from af3stream.protocol.messages import Ack, Caption, Ready, ServerMessage, Speech

DUE_S: Final = 1.0  # the last caption of an utterance may end this much earlier than its speech


class LagMeter:
    """Pass in the server's messages with ``hear``, and read the lag with ``seconds``.

    The lag is speech that was captured and has no caption yet, as a person sees it. Silence causes no lag.
    """

    def __init__(self) -> None:
        self._rate = 16_000  # Hz
        self._waiting: list[
            list[float]
        ] = []  # start and end of speech without all of its captions; infinity for open speech
        self._shown_s = 0.0  # speech before this second has its captions

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
        """Return the lag in seconds, when ``captured_s`` seconds have been captured."""
        return max(0.0, captured_s - max(self._waiting[0][0], self._shown_s)) if self._waiting else 0.0
