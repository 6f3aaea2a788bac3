"""Where the next audio goes: offsets, credit, and what has to be declared lost. No clock, no socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from af3stream.protocol.messages import Ack, Error, Gap, Ready

PIECE_S: Final = 1  # the most audio in one message
ENVELOPE_BYTES: Final = 256  # more than a message needs around its audio
SAMPLE_BYTES: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1}


class Outgoing:
    """The audio side of a session. All counts are sample frames at the session's rate.

    Attributes:
        sent: given an offset, as audio or as lost.
        received: what the server says it has.
        processed: what the server says is captioned and encoded.
        frame_bytes: the size of a sample frame.
    """

    def __init__(self, ready: Ready) -> None:
        self.sent = self.received = self.processed = 0
        self.frame_bytes = SAMPLE_BYTES[ready.format] * ready.channels
        self._credit = int(ready.credit_s * ready.rate)
        pcm_bytes = (ready.max_frame_bytes - ENVELOPE_BYTES) * 3 // 4  # JSON spells 3 bytes as 4 characters
        self._piece = max(1, min(PIECE_S * ready.rate, self._credit, pcm_bytes // self.frame_bytes))
        self._refused_from: int | None = None  # audio from here on did not arrive
        self._mended_to = 0  # below this, refused audio is already declared lost

    def pieces(self, frames: int) -> Iterator[int]:
        """``frames`` in parts that fit a message each."""
        for start in range(0, frames, self._piece):
            yield min(self._piece, frames - start)

    def has_credit(self, frames: int) -> bool:
        """Whether so many frames may be sent now."""
        return self.sent + frames - self.processed <= self._credit

    def advance(self, frames: int) -> int:
        """The offset of the next ``frames``."""
        offset = self.sent
        self.sent += frames
        return offset

    def acknowledged(self, ack: Ack) -> None:
        """The server has come this far."""
        self.received, self.processed = ack.received, ack.processed

    def refused(self, error: Error) -> None:
        """The server refused audio, if it names the offset that it expects."""
        if error.expected_offset is not None:
            self._refused_from = error.expected_offset

    def mend(self) -> Gap | None:
        """The gap that stands for what was refused, once: refusals of audio under way by then need no second one."""
        refused_from, self._refused_from = self._refused_from, None
        if refused_from is None or not self._mended_to <= refused_from < self.sent:
            return None
        self._mended_to = self.sent
        return Gap(refused_from, self.sent - refused_from)
