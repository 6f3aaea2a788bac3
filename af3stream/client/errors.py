"""What a session fails with, besides the :class:`~af3stream.errors.SourceError` of an address out of reach."""

from __future__ import annotations

from af3stream.errors import Af3StreamError, SourceError
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
    """The connection went away before the session's end, and no other one could take its place."""


class SessionEnded(Af3StreamError):
    """The session is over, and takes no more requests."""


class ReaderTooSlow(Af3StreamError):
    """More messages waited for the reader than the session keeps; what came after them was not kept."""


class Unreachable(SourceError):
    """The service cannot be reached now; it may be later.

    Attributes:
        retry_after_s: how long it asks to wait, where it said so.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotAdmitted(SourceError):
    """The service does not want this client."""


def mismatch(code: str, sentence: str) -> ServerError:
    """The server goes on in a way that would lose something without a word: a refusal on its behalf."""
    return ServerError(Error(code, sentence, fatal=True, retryable=False))
