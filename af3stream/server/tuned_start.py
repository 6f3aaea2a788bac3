"""A session's opening with settings of its own for cutting speech, as dialects have them."""

from __future__ import annotations

import msgspec

from af3stream.config import Config
from af3stream.protocol.messages import Start


class TunedStart(Start, frozen=True, tag="start"):
    """Protocol v1's `start`, and what protocol v1 leaves to the configuration; ``None``: as configured."""

    vad_level: int | None = None
    speech_pad_ms: int | None = None
    pause_ms: int | None = None


def tuned(config: Config, start: Start) -> Config:
    """Return the configuration with the session's own settings in place."""
    if not isinstance(start, TunedStart):
        return config
    own = {"vad_level": start.vad_level, "speech_pad_ms": start.speech_pad_ms, "pause_ms": start.pause_ms}
    audio = msgspec.structs.replace(config.audio, **{name: value for name, value in own.items() if value is not None})
    return msgspec.structs.replace(config, audio=audio)
