"""Collect final captions, with their updates applied."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from af3stream.protocol.messages import Caption, CaptionUpdate, Message


class FinalCaptions:
    """The final captions of a session, in the order in which they came."""

    def __init__(self) -> None:
        self._captions: dict[int, Caption] = {}

    def add(self, message: Message) -> None:
        """Add a final caption, or apply an update to one. Ignore other messages."""
        if isinstance(message, Caption) and message.final:
            self._captions[message.utterance] = message
        elif isinstance(message, CaptionUpdate) and (caption := self._captions.get(message.utterance)):
            updated = msgspec.structs.replace(
                caption,
                text=message.text,
                stable=message.text,
                language=message.language,
                translation=message.translation,
                words=message.words,
            )
            self._captions[message.utterance] = updated

    def __iter__(self) -> Iterator[Caption]:
        return iter(self._captions.values())
