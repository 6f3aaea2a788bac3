"""Collect the server's reply to one request."""

from __future__ import annotations

from dataclasses import dataclass

from af3stream.protocol.messages import Answer, Ended, Error, Flushed


@dataclass(slots=True)
class Reply:
    """Collect what the server sends for one request.

    Attributes:
        unread: the text of an answer that the caller has not taken yet.
        received: all text of the answer that has arrived.
        interrupted: whether the connection was lost since the request, so that pieces may be missing.
        outcome: the message that completes the request, or ``None`` while it is pending.
    """

    unread: str = ""
    received: str = ""
    interrupted: bool = False
    outcome: Answer | Flushed | Ended | Error | None = None

    def add(self, piece: str) -> bool:
        """Add the next piece, unless pieces before it may be missing; return whether it was added."""
        if not self.interrupted:
            self.unread += piece
            self.received += piece
        return not self.interrupted

    def settle(self, outcome: Answer | Flushed | Ended | Error) -> None:
        """Complete the request. After an interruption, add the rest of the answer, or all of it if the text differs."""
        if self.interrupted and isinstance(outcome, Answer):
            continues = outcome.text.startswith(self.received)
            self.unread += outcome.text.removeprefix(self.received) if continues else "\n" + outcome.text
        self.outcome = outcome
