"""Turn the client's errors into those of LiveKit Agents, which say whether another attempt may succeed."""

from livekit.agents import APIConnectionError, APIError, APIStatusError

from af3stream.client import AuthenticationError, ClientError, ServerError, TemporaryError


def api_error(error: ClientError) -> APIError:
    """Return the framework's error for an error of the client."""
    match error:
        case TemporaryError():
            return APIConnectionError(str(error))
        case AuthenticationError():
            return APIStatusError(str(error), status_code=401)
        case ServerError():
            return APIError(str(error), retryable=error.error.retryable)
    return APIError(str(error), retryable=False)
