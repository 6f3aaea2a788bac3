"""The errors that the client raises, by cause.

    ClientError                    an Af3StreamError
    ├── AuthenticationError        the token is missing or wrong (HTTP 401, 403)
    ├── TemporaryError             another attempt may succeed; has ``retry_after_s``
    │   ├── AdmissionError         the service has no room now (HTTP 429, 503)
    │   └── NetworkError           the service cannot be reached now
    │       └── ConnectionLost     an open session lost its connection for good
    ├── ProtocolError              the peer does not follow the protocol
    ├── ServerError                the server refused the session or a request; has the message ``error``
    ├── SessionEnded               the session is over
    └── ReaderTooSlow              the caller did not read its messages

A malformed address, and a spool folder without write access, raise ``SourceError``.
"""

from __future__ import annotations

from af3stream.errors import Af3StreamError
from af3stream.protocol.messages import Error


class ClientError(Af3StreamError):
    """Base of every error of a client's connection or session."""


class AuthenticationError(ClientError):
    """The service does not accept the token, or does not admit this client."""


class TemporaryError(ClientError):
    """Another attempt may succeed.

    Attributes:
        retry_after_s: seconds that the service asks the client to wait; 0 if it names none.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AdmissionError(TemporaryError):
    """The service has no room for another session now."""


class NetworkError(TemporaryError):
    """The service cannot be reached now."""


class ProtocolError(ClientError):
    """The peer does not follow the protocol."""


class ServerError(ClientError):
    """The server refused the session or a request.

    Attributes:
        error: the ``error`` message, with its code and whether another attempt may succeed.
    """

    def __init__(self, error: Error) -> None:
        super().__init__(f"the server refused: {error.message} ({error.code})")
        self.error = error


class ConnectionLost(NetworkError):
    """The session lost its connection, and could not reconnect."""


class SessionEnded(ClientError):
    """The session is over and accepts no more requests."""


class ReaderTooSlow(ClientError):
    """The caller read too slowly: the inbox was full, and later messages were dropped."""


def mismatch(code: str, sentence: str) -> ServerError:
    """Return a refusal on the server's behalf, for a resumed session that does not match the client's state."""
    return ServerError(Error(code, sentence, fatal=True, retryable=False))
