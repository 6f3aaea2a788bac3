"""The features added after the first version of the protocol. A client gets only the features that it lists."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from af3stream.protocol.messages import Answer, CaptionUpdate, Ready, ServerMessage

ANSWER_REACH: Final = "answer_reach"  # `answer` has `heard_until`, `captions_from`, `captioned_until`
FOLLOW_UPS: Final = "follow_ups"  # `ask` takes `after`; `answer` has `question` and `after`
CAPTION_UPDATES: Final = "caption_updates"  # `caption_update` corrects final captions
FEATURES: Final = (ANSWER_REACH, FOLLOW_UPS, CAPTION_UPDATES)


def restrict(message: ServerMessage, features: Collection[str]) -> ServerMessage | None:
    """Remove the fields of features that the client does not list.

    Returns:
        The message, or ``None`` if its type belongs to such a feature.
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
