"""How connections end: as a clause for people, and whether another one may follow."""

from __future__ import annotations

from typing import Final

from websockets.exceptions import ConnectionClosed

LOST: Final = 1006  # no close was said
FINAL: Final = (1002, 1003, 1007, 1008, 1009, 1010)  # the same would happen again
PASSING: Final = (4408, 4429)  # the service's own codes begin at 4000, and are final but for these


def why_closed(closed: ConnectionClosed) -> str:
    """How a connection ended, as a clause."""
    if closed.rcvd is None:
        return "the connection to the server was lost"
    reason = f": {closed.rcvd.reason}" if closed.rcvd.reason else ""
    return f"the server closed the connection with code {closed.rcvd.code}{reason}"


def is_final(closed: ConnectionClosed) -> bool:
    """Whether no other connection can follow."""
    frame = closed.rcvd or closed.sent
    code = frame.code if frame else LOST
    return code in FINAL or (code >= 4000 and code not in PASSING)
