"""What came after the first version of the protocol, by name: it is sent only to a client that lists the name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from af3stream.protocol.messages import Answer, CaptionUpdate, Ready, ServerMessage

ANSWER_REACH: Final = "answer_reach"  # `answer` says what it heard and read
FOLLOW_UPS: Final = "follow_ups"  # `ask` takes `after`; `answer` has its question
CAPTION_UPDATES: Final = "caption_updates"  # `caption_update` corrects final captions
FEATURES: Final = (ANSWER_REACH, FOLLOW_UPS, CAPTION_UPDATES)


def restrict(message: ServerMessage, features: Collection[str]) -> ServerMessage | None:
    """Return the message without what belongs to features that the client does not list.

    Returns:
        ``None`` for a message that such a client is not sent at all.
    """
    match message:
        case CaptionUpdate() if CAPTION_UPDATES not in features:
            return None
        case Ready() if not features:
            return msgspec.structs.replace(message, features=())
        case Answer():
            if ANSWER_REACH not in features:
                message = msgspec.structs.replace(message, heard_until=None, captions_from=None, captioned_until=None)
            if FOLLOW_UPS not in features:
                message = msgspec.structs.replace(message, question="", after=None)
    return message
