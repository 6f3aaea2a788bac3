"""Name the speakers of a session."""

from __future__ import annotations

from af3stream.protocol.messages import SpeakerNamed


class SpeakerNames:
    """The names of the speakers that have one, by number."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def receive(self, message: SpeakerNamed) -> None:
        """Set a speaker's name, or take it away."""
        self._names[message.speaker] = message.name

    def label(self, speaker: int | None) -> str:
        """Return a speaker's name, or ``Speaker 1``; empty if it is not known who speaks."""
        return "" if speaker is None else self._names.get(speaker) or f"Speaker {speaker}"
