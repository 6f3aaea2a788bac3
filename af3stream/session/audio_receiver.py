"""Receives a client's audio: checks offsets, credit and format, and converts to samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.pcm import AudioFormat, PcmDecoder, Samples
from af3stream.errors import AudioConflict, BadAudio, BadEnd, BadOffset, OffsetGap, RateLimited
from af3stream.journal.records import AudioInput, GapRecord

LARGEST_OFFSET = 1 << 53  # sample frames; a double holds every smaller integer exactly
REMEMBERED_S: Final = 10  # of the newest audio, as bytes: audio that is sent again is compared with it


class Recent:
    """The newest 10 s of audio as bytes, since the last gap."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._size = audio_format.bytes_per_frame
        self._bound = REMEMBERED_S * audio_format.rate
        self._begin = self._end = 0  # frames
        self._bytes = bytearray()

    def add(self, offset: int, pcm: bytes) -> None:
        """Add bytes that begin at a frame, and drop those that are too old."""
        if offset != self._end:
            self._bytes.clear()
            self._begin = offset
        self._bytes += pcm
        self._end = offset + len(pcm) // self._size
        begin = max(self._begin, self._end - self._bound)
        del self._bytes[: (begin - self._begin) * self._size]
        self._begin = begin

    def differs(self, offset: int, pcm: bytes) -> bool:
        """Return whether bytes that begin at a frame differ from those in memory where both overlap."""
        start = max(offset, self._begin)
        theirs, at = pcm[(start - offset) * self._size :], (start - self._begin) * self._size
        ours = self._bytes[at : at + len(theirs)]
        return theirs[: len(ours)] != ours


class AudioReceiver:
    """One session's audio as the client sends it. It is received in order and without a hole.

    Attributes:
        received: sample frames at the client's rate, declared gaps included.
        lost: sample frames of declared gaps.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self.format = audio_format
        self.received = 0
        self.lost = 0
        self._decoder = PcmDecoder(audio_format)
        self._recent = Recent(audio_format)

    def audio(self, offset: int, pcm: bytes, limit: int) -> Samples | None:
        """Take sample frames; returns them as float32 (n,) at 16 kHz, or ``None`` for a range received before.

        Args:
            limit: the first frame that the credit does not cover.

        Raises:
            BadAudio: for bytes that are not whole, finite frames.
            AudioConflict: if a range is sent again within 10 s, with other bytes; the first bytes stay.
            BadOffset, OffsetGap: for frames that are not the next ones, with the offset that is expected.
            RateLimited: for frames beyond the credit.
        """
        frames = self.format.frames(pcm)
        self._in_range(offset)
        if offset + frames <= self.received:
            if self._recent.differs(offset, pcm):
                raise AudioConflict(f"frames {offset} to {offset + frames} were sent before, with other bytes")
            return None
        if offset < self.received:
            raise BadOffset(f"frames {offset} to {offset + frames} overlap what is received, up to {self.received}")
        if offset + frames > limit:
            raise RateLimited(f"frames {offset} to {offset + frames} are beyond the credit, which ends at {limit}")
        self._next(offset)
        self.received += frames
        self._recent.add(offset, pcm)
        return self._decoder.decode(pcm)

    def gap(self, offset: int, frames: int, limit: int) -> Iterator[Samples]:
        """Take a range that the client lost; yields it as silence, float32 (n,) at 16 kHz, block by block.

        Raises:
            BadAudio: for a length that is not positive.
            BadOffset, OffsetGap, RateLimited: as for audio.
        """
        if frames <= 0:
            raise BadAudio(f"a gap of {frames} frames, expected at least one")
        self._in_range(offset)
        if offset + frames > limit:
            raise RateLimited(f"the gap is beyond the credit, which ends at {limit}")
        self._next(offset)
        if offset < self.received:
            raise BadOffset(f"the gap begins at {offset}, and {self.received} frames are received")
        self.received += frames
        self.lost += frames
        return self._decoder.silence(frames)

    def replay(self, record: AudioInput) -> Iterator[Samples]:
        """Take a record from the journal; yields its samples, float32 (n,) at 16 kHz."""
        if isinstance(record, GapRecord):
            yield from self.gap(record.offset, record.frames, record.end)
        elif (samples := self.audio(record.offset, record.pcm, record.end)) is not None:
            yield samples

    def end(self, total: int) -> Samples:
        """Take the end of the audio; returns the samples that the resampler holds back, float32 (n,).

        Raises:
            BadEnd: if ``total`` is not the number of frames received.
        """
        if total != self.received:
            raise BadEnd(f"end names {total} sample frames in all, and {self.received} were received")
        return self._decoder.finish()

    def seconds(self, frames: int) -> float:
        """Return the length of client frames in seconds."""
        return frames / self.format.rate

    def frames_before(self, position: int) -> int:
        """Return the number of received client frames before a 16 kHz sample."""
        return min(self.received, position * self.format.rate // SAMPLE_RATE)

    def _in_range(self, offset: int) -> None:
        if not 0 <= offset <= LARGEST_OFFSET:
            raise BadOffset(f"the offset must lie between 0 and {LARGEST_OFFSET}")

    def _next(self, offset: int) -> None:
        if offset > self.received:
            raise OffsetGap(f"expected offset {self.received}, found {offset}")
