"""Summarise the state of a session as one status line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from af3stream.client import LagMeter
from af3stream.protocol.messages import Degraded, Level, ServerMessage
from af3stream_clients.captions.formatting import as_sentence, duration
from af3stream_clients.load_messages import LOAD_MESSAGES

Phase = Literal["idle", "starting", "connecting", "open", "reconnecting", "finished", "over"]
Severity = Literal["neutral", "ok", "warning", "error"]

NORMAL_LAG_S: Final = 5.0  # a smaller lag is not reported
PHASES: Final[dict[Phase, tuple[Severity, str]]] = {
    "idle": ("neutral", "Not listening"),
    "starting": ("warning", "Starting the local server"),
    "connecting": ("warning", "Connecting"),
    "open": ("ok", "Listening"),
    "reconnecting": ("error", "Connection lost, reconnecting"),
    "finished": ("neutral", "Heard to the end"),
    "over": ("error", "Disconnected"),
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How much audio was captured and sent, in seconds.

    Attributes:
        captured_s: audio captured, or read from a file, including lost parts.
        unsent_s: the part that the server has not received yet.
        lost_s: the part that is never sent: the buffer was full, or the server refused it.
        muted: whether the microphone delivers only zeros.
    """

    captured_s: float
    unsent_s: float
    lost_s: float
    muted: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """One line of text for people, and its severity."""

    severity: Severity
    text: str


class StatusTracker:
    """Collect the events of a session, and derive ``status`` from them."""

    def __init__(self) -> None:
        self.phase: Phase = "idle"
        self.reason = ""  # why there is no connection
        self.paused = False
        self.source_problem = ""  # why the source delivers no audio
        self.progress = Progress(0, 0, 0)
        self._level: Level = "none"
        self._lag_meter = LagMeter()

    def receive(self, message: ServerMessage) -> None:
        """Process one message of the server."""
        self._lag_meter.hear(message)
        if isinstance(message, Degraded):
            self._level = message.level

    @property
    def behind_s(self) -> float:
        """Seconds of speech that have no caption yet."""
        return self._lag_meter.seconds(self.progress.captured_s)

    @property
    def status(self) -> Status:
        """The status to show now."""
        severity, text = self._describe()
        lost = self.progress.lost_s
        return Status(severity, f"{text} · {duration(lost)} of sound lost" if lost >= 0.5 else text)

    def _describe(self) -> tuple[Severity, str]:
        severity, text = PHASES[self.phase]
        if self.phase == "over":
            return severity, as_sentence(self.reason) if self.reason else text
        if self.phase == "starting" and self.reason:
            return severity, f"{text} · {self.reason}"
        if self.phase == "connecting" and self.reason:
            return "error", f"{as_sentence(self.reason)} Trying again"
        if self.phase == "reconnecting":
            return severity, f"{text} · {duration(self.progress.unsent_s)} kept"
        if self.source_problem:
            return "error", as_sentence(self.source_problem)
        if self.paused and self.phase == "open":
            return "neutral", "Paused"
        if self.phase == "open":  # captions of a whole file arrive before the phase leaves `open`
            if self.progress.muted:
                return "warning", "No sound: is the microphone muted?"
            behind = self.behind_s
            if level := LOAD_MESSAGES[self._level]:
                return "warning", f"{level} · {duration(behind)} behind" if behind > NORMAL_LAG_S else level
            if behind > NORMAL_LAG_S:
                return "warning", f"Catching up · {duration(behind)} behind"
        return severity, text
