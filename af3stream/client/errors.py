"""Every error of the client, by cause.

    ClientError                    an Af3StreamError
    ├── AuthenticationError        the token is missing or wrong (HTTP 401, 403)
    ├── TemporaryError             the same may succeed later; has ``retry_after_s``
    │   ├── AdmissionError         the service has no room now (HTTP 429, 503)
    │   └── NetworkError           the service cannot be reached now
    │       └── ConnectionLost     an open session lost its connection for good
    ├── ProtocolError              the peer does not answer as this service does
    ├── ServerError                the server refused the session or a request; has the message ``error``
    ├── SessionEnded               the session is over
    └── ReaderTooSlow              the caller did not read its messages

A malformed address, and a spool folder that takes no file, raise ``SourceError``.
"""

from __future__ import annotations

from af3stream.errors import Af3StreamError
from af3stream.protocol.messages import Error


class ClientError(Af3StreamError):
    """Base of every error of a client's connection or session."""


class AuthenticationError(ClientError):
    """The service does not accept the token, or does not admit this client."""


class TemporaryError(ClientError):
    """The same may succeed later.

    Attributes:
        retry_after_s: the seconds that the service asks to wait, 0 if it names none.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AdmissionError(TemporaryError):
    """The service takes no other session now."""


class NetworkError(TemporaryError):
    """The service cannot be reached now."""


class ProtocolError(ClientError):
    """The peer does not answer as this service does."""


class ServerError(ClientError):
    """The server refused something.

    Attributes:
        error: the refusal as it arrived, with its code and whether trying again may help.
    """

    def __init__(self, error: Error) -> None:
        super().__init__(f"the server refused: {error.message} ({error.code})")
        self.error = error


class ConnectionLost(NetworkError):
    """The session lost its connection, and could not get another one."""


class SessionEnded(ClientError):
    """The session is over, and takes no more requests."""


class ReaderTooSlow(ClientError):
    """The caller read too slowly: more messages waited than the session keeps, and later ones were dropped."""


def mismatch(code: str, sentence: str) -> ServerError:
    """The server goes on in a way that would lose something without a word: a refusal on its behalf."""
    return ServerError(Error(code, sentence, fatal=True, retryable=False))
