"""Explain why a connection was closed, and tell whether it makes sense to reconnect."""

from __future__ import annotations

from typing import Final

from websockets.exceptions import ConnectionClosed

LOST: Final = 1006  # closed without a close frame
FINAL: Final = (1002, 1003, 1007, 1008, 1009, 1010)  # another attempt would fail in the same way
PASSING: Final = (4408, 4429)  # the service's own codes begin at 4000; all others of them are final


def why_closed(closed: ConnectionClosed) -> str:
    """Return the reason as a clause for people."""
    if closed.rcvd is None:
        return "the connection to the server was lost"
    reason = f": {closed.rcvd.reason}" if closed.rcvd.reason else ""
    return f"the server closed the connection with code {closed.rcvd.code}{reason}"


def is_final(closed: ConnectionClosed) -> bool:
    """Return whether reconnecting would fail too."""
    frame = closed.rcvd or closed.sent
    code = frame.code if frame else LOST
    return code in FINAL or (code >= 4000 and code not in PASSING)
