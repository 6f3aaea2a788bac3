"""A session's opening with settings of its own for cutting speech, as the OpenAI API has them."""

from __future__ import annotations

from typing import Final

import msgspec

from af3stream.config import Config
from af3stream.protocol.messages import Start

VAD_LEVELS: Final = (0.25, 0.45, 0.7)  # thresholds from which webrtcvad's levels 1, 2 and 3 are taken
MOST_PAD_MS: Final = 1_000


class TunedStart(Start, frozen=True, tag="start"):
    """Protocol v1's `start`, and what protocol v1 leaves to the configuration; ``None``: as configured."""

    vad_level: int | None = None
    speech_pad_ms: int | None = None
    pause_ms: int | None = None


def cutting(threshold: float | None, padding_ms: int | None, pause_ms: int | None) -> dict[str, int | None]:
    """Return the fields of a `TunedStart` for the API's voice detection; ``None``: as configured.

    Args:
        threshold: 0 to 1; a higher one takes fewer sounds for voice.
        padding_ms: audio kept before speech, at most a second.
        pause_ms: silence that ends an utterance.
    """
    return {
        "vad_level": None if threshold is None else sum(threshold >= at for at in VAD_LEVELS),
        "speech_pad_ms": None if padding_ms is None else min(padding_ms, MOST_PAD_MS),
        "pause_ms": pause_ms,
    }


def tuned(config: Config, start: Start) -> Config:
    """Return the configuration with the session's own settings in place."""
    if not isinstance(start, TunedStart):
        return config
    own = {"vad_level": start.vad_level, "speech_pad_ms": start.speech_pad_ms, "pause_ms": start.pause_ms}
    audio = msgspec.structs.replace(config.audio, **{name: value for name, value in own.items() if value is not None})
    return msgspec.structs.replace(config, audio=audio)
