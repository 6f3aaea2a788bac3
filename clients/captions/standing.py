"""How things stand between what is said and what is shown, and what people are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from af3stream.client import LagMeter
from af3stream.protocol.messages import Degraded, Level, ServerMessage
from clients.captions.words import sentence, span
from clients.levels import LEVELS

Phase = Literal["idle", "starting", "connecting", "open", "reconnecting", "finished", "over"]
Mood = Literal["calm", "good", "working", "bad"]

USUAL_S: Final = 5.0  # captions this far behind are no news
PHASES: Final[dict[Phase, tuple[Mood, str]]] = {
    "idle": ("calm", "Not listening"),
    "starting": ("working", "Starting the local server"),
    "connecting": ("working", "Connecting"),
    "open": ("good", "Listening"),
    "reconnecting": ("bad", "Connection lost, reconnecting"),
    "finished": ("calm", "Heard to the end"),
    "over": ("bad", "Disconnected"),
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the audio has come, in seconds.

    Attributes:
        captured_s: what was captured, or read of a file, lost parts included.
        unsent_s: of that, what the server does not have yet.
        lost_s: of that, what was never sent: it found no room, or the server refused it.
        muted: whether the microphone gives nothing but zeros.
    """

    captured_s: float
    unsent_s: float
    lost_s: float
    muted: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """One line for people, and its mood."""

    mood: Mood
    text: str


class Standing:
    """Push in what happens, pull out :attr:`status`."""

    def __init__(self) -> None:
        self.phase: Phase = "idle"
        self.reason = ""  # why there is no connection
        self.paused = False
        self.trouble = ""  # why the source gives nothing
        self.progress = Progress(0, 0, 0)
        self._level: Level = "none"
        self._behind = LagMeter()

    def hear(self, message: ServerMessage) -> None:
        """Take in one message of the server."""
        self._behind.hear(message)
        if isinstance(message, Degraded):
            self._level = message.level

    @property
    def behind_s(self) -> float:
        """Seconds of speech that are not shown yet."""
        return self._behind.seconds(self.progress.captured_s)

    @property
    def status(self) -> Status:
        """What to tell now."""
        mood, text = self._standing()
        lost = self.progress.lost_s
        return Status(mood, f"{text} · {span(lost)} of sound lost" if lost >= 0.5 else text)

    def _standing(self) -> tuple[Mood, str]:
        mood, text = PHASES[self.phase]
        if self.phase == "over":
            return mood, sentence(self.reason) if self.reason else text
        if self.phase == "starting" and self.reason:
            return mood, f"{text} · {self.reason}"
        if self.phase == "connecting" and self.reason:
            return "bad", f"{sentence(self.reason)} Trying again"
        if self.phase == "reconnecting":
            return mood, f"{text} · {span(self.progress.unsent_s)} kept"
        if self.trouble:
            return "bad", sentence(self.trouble)
        if self.paused and self.phase == "open":
            return "calm", "Paused"
        if self.phase == "open":  # of a file that was heard to its end, every caption came before it was told
            if self.progress.muted:
                return "working", "No sound: is the microphone muted?"
            behind = self.behind_s
            if level := LEVELS[self._level]:
                return "working", f"{level} · {span(behind)} behind" if behind > USUAL_S else level
            if behind > USUAL_S:
                return "working", f"Catching up · {span(behind)} behind"
        return mood, text
