"""What came after the first version of the protocol, by name: it is sent only to a client that lists the name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from af3stream.protocol.messages import Answer, Ready, ServerMessage

ANSWER_REACH: Final = "answer_reach"  # `answer` says what it heard and read
FOLLOW_UPS: Final = "follow_ups"  # `ask` takes `after`; `answer` has its question
FEATURES: Final = (ANSWER_REACH, FOLLOW_UPS)


def restrict(message: ServerMessage, features: Collection[str]) -> ServerMessage:
    """Return the message as a client that lists these features is sent it: without the fields of all others."""
    match message:
        case Ready() if not features:
            return msgspec.structs.replace(message, features=())
        case Answer():
            if ANSWER_REACH not in features:
                message = msgspec.structs.replace(message, heard_until=None, captions_from=None, captioned_until=None)
            if FOLLOW_UPS not in features:
                message = msgspec.structs.replace(message, question="", after=None)
    return message
