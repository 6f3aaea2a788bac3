"""Collect final captions, with their updates applied, and the names of their speakers."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from af3stream.protocol.messages import Caption, CaptionUpdate, Message, Sound, SpeakerNamed, SpeakerUpdate


def sound_caption(sound: Sound) -> Caption:
    """Return a sound as a caption of no utterance, -1."""
    return Caption(-1, sound.text, sound.start, sound.end, final=True)


class FinalCaptions:
    """The final captions of a session, in the order in which they came.

    Attributes:
        names: of the speakers that have one.
    """

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self._captions: dict[int, Caption] = {}
        self._sounds: dict[float, Caption] = {}

    def add(self, message: Message) -> None:
        """Add a final caption or a sound, or apply an update or a speaker's name. Ignore other messages."""
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
        elif isinstance(message, Sound):
            self._sounds[message.start] = sound_caption(message)
        elif isinstance(message, SpeakerUpdate) and (caption := self._captions.get(message.utterance)):
            self._captions[message.utterance] = msgspec.structs.replace(caption, speaker=message.speaker)
        elif isinstance(message, SpeakerNamed):
            self.names.pop(message.speaker, None)
            if message.name:
                self.names[message.speaker] = message.name

    @property
    def with_sounds(self) -> list[Caption]:
        """The captions, and the sounds as captions of no utterance, in the order of the audio."""
        return sorted([*self, *self._sounds.values()], key=lambda caption: caption.start)

    def speaker(self, caption: Caption) -> str:
        """Return who speaks, by name or else by number; empty if that is not known."""
        if caption.speaker is None:
            return ""
        return self.names.get(caption.speaker) or f"Speaker {caption.speaker}"

    def __iter__(self) -> Iterator[Caption]:
        return iter(self._captions.values())
