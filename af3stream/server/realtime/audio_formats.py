"""Decoding of appended audio to the formats of a session."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Final

import numpy as np

from af3stream.audio.pcm import AudioFormat
from af3stream.server.openai_errors import ApiError

PIECE_S: Final = 1  # of audio given to a session at once


def _alaw_table() -> bytes:
    """Every A-law byte as 16-bit PCM, little-endian (ITU-T G.711)."""
    bits = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, step = (bits >> 4) & 7, (bits & 15) * 16 + 8
    magnitude = np.where(exponent == 0, step, (step + 256) << np.maximum(exponent - 1, 0))
    pcm: bytes = np.where(bits & 0x80, magnitude, -magnitude).astype("<i2").tobytes()
    return pcm


_ALAW: Final = np.frombuffer(_alaw_table(), "<i2")


class Appended:
    """Splits appended audio into pieces of whole sample frames.

    Args:
        alaw: whether it is A-law, which sessions take as 16-bit PCM.
    """

    def __init__(self, audio: AudioFormat, *, alaw: bool) -> None:
        self.format = audio
        self._alaw = alaw
        self._rest = b""  # of a frame

    def pieces(self, spelled: str) -> Iterator[bytes]:
        """Decode base64, and yield the complete sample frames.

        Raises:
            ApiError: if the text is not base64.
        """
        data = self._rest + decoded(spelled)
        if self._alaw:
            data = _ALAW[np.frombuffer(data, np.uint8)].tobytes()
        whole = len(data) - len(data) % self.format.bytes_per_frame
        self._rest = data[whole:]
        size = PIECE_S * self.format.rate * self.format.bytes_per_frame
        return (data[at : min(at + size, whole)] for at in range(0, whole, size))


def decoded(spelled: str) -> bytes:
    """Decode base64.

    Raises:
        ApiError: if the text is not base64.
    """
    try:
        return binascii.a2b_base64(spelled, strict_mode=True) if spelled else b""
    except (binascii.Error, ValueError):
        raise ApiError("the audio is not base64", code="invalid_value", param="audio") from None
