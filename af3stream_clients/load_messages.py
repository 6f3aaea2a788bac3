"""Messages for people about the load levels of a server."""

from __future__ import annotations

from typing import Final

from af3stream.protocol.messages import Level

LOAD_MESSAGES: Final[dict[Level, str]] = {
    "none": "",
    "interims_stretched": "Busy: words come less often",
    "interims_dropped": "Very busy: only finished captions",
    "answers_queued": "Very busy: answers wait",
    "finals_late": "Very busy: captions come late",
    "sessions_refused": "The server is full",
}
