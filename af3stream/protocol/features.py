"""The features added after the first version of the protocol. A client gets only the features that it lists."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from af3stream.protocol.messages import (
    Answer,
    Caption,
    CaptionUpdate,
    Ready,
    ServerMessage,
    Sound,
    SpeakerNamed,
    SpeakerUpdate,
    Start,
)

ANSWER_REACH: Final = "answer_reach"  # `answer` has `heard_until`, `captions_from`, `captioned_until`
FOLLOW_UPS: Final = "follow_ups"  # `ask` takes `after`; `answer` has `question` and `after`
CAPTION_UPDATES: Final = "caption_updates"  # `caption_update` corrects final captions
LANGUAGES: Final = "languages"  # captions have `language` and `translation`
WORDS: Final = "words"  # final captions have `words`, if `start.words` asks for them
SPEAKERS: Final = "speakers"  # final captions have `speaker`, if `start.speakers` asks for it
SOUNDS: Final = "sounds"  # `sound` names what is heard beside speech
INSTRUCTIONS: Final = "instructions"  # `start` takes `instructions`; `instruct` changes them
FEATURES: Final = (ANSWER_REACH, FOLLOW_UPS, CAPTION_UPDATES, LANGUAGES, WORDS, SPEAKERS, SOUNDS, INSTRUCTIONS)


def known_to(start: Start) -> frozenset[str]:
    """Return the features that a client knows: those that it lists, and those that it asks for."""
    asked = {
        LANGUAGES: start.language is not None or start.languages or start.task is not None,
        WORDS: start.words,
        SPEAKERS: start.speakers,
        INSTRUCTIONS: start.instructions,
    }
    return frozenset(start.features) | {name for name, wanted in asked.items() if wanted}


def restrict(message: ServerMessage, features: Collection[str]) -> ServerMessage | None:
    """Remove the fields of features that the client does not know.

    Returns:
        The message, or ``None`` if its type belongs to such a feature.
    """
    replace = msgspec.structs.replace
    match message:
        case CaptionUpdate() if CAPTION_UPDATES not in features:
            return None
        case Sound() if SOUNDS not in features:
            return None
        case SpeakerUpdate() | SpeakerNamed() if SPEAKERS not in features:
            return None
        case Ready():
            if not features:
                message = replace(message, features=())
            if LANGUAGES not in features:
                message = replace(message, language="auto", languages=(), task="transcribe")
            if WORDS not in features:
                message = replace(message, words=False)
            if SPEAKERS not in features:
                message = replace(message, speakers=False)
            if INSTRUCTIONS not in features:
                message = replace(message, max_instructions_chars=0)
        case Caption() | CaptionUpdate():
            if LANGUAGES not in features:
                message = replace(message, language=None, translation="")
            if WORDS not in features:
                message = replace(message, words=())
            if SPEAKERS not in features:
                message = replace(message, speaker=None)
        case Answer():
            if ANSWER_REACH not in features:
                message = replace(message, heard_until=None, captions_from=None, captioned_until=None)
            if FOLLOW_UPS not in features:
                message = replace(message, question="", after=None)
    return message
