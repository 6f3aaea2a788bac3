"""What a session fails with, besides the :class:`~af3stream.errors.SourceError` of an address out of reach."""

from __future__ import annotations

from af3stream.errors import Af3StreamError
from af3stream.protocol.messages import Error


class ServerError(Af3StreamError):
    """The server refused something.

    Attributes:
        error: the refusal as it arrived, with its code and whether trying again may help.
    """

    def __init__(self, error: Error) -> None:
        super().__init__(f"the server refused: {error.message} ({error.code})")
        self.error = error


class ConnectionLost(Af3StreamError):
    """The connection went away before the session's end."""


class SessionEnded(Af3StreamError):
    """The session is over, and takes no more requests."""


class ReaderTooSlow(Af3StreamError):
    """More messages waited for the reader than the session keeps; what came after them was not kept."""
