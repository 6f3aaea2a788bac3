"""The messages that a session yields. ``docs/protocol.md`` describes their fields."""

from af3stream.protocol.messages import (
    Ack,
    Answer,
    AnswerDelta,
    Caption,
    CaptionUpdate,
    Degraded,
    Ended,
    Error,
    Flushed,
    Ready,
    ServerMessage,
    Speech,
    WatchHit,
    Window,
)

__all__ = [
    "Ack",
    "Answer",
    "AnswerDelta",
    "Caption",
    "CaptionUpdate",
    "Degraded",
    "Ended",
    "Error",
    "Flushed",
    "Ready",
    "ServerMessage",
    "Speech",
    "WatchHit",
    "Window",
]
