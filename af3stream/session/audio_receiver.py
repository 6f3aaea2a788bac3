"""What arrived: offsets, formats, and the samples they become."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.pcm import AudioFormat, PcmDecoder, Samples
from af3stream.errors import AudioConflict, BadAudio, BadEnd, BadOffset, OffsetGap, RateLimited
from af3stream.journal.records import AudioInput, GapRecord

LARGEST_OFFSET = 1 << 53  # sample frames; what every peer's number type holds exactly
REMEMBERED_S: Final = 10  # the newest audio, as it came: what is sent again is compared with it


class Recent:
    """The newest 10 s of bytes as they came; a gap makes it forget what was before."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._size = audio_format.bytes_per_frame
        self._bound = REMEMBERED_S * audio_format.rate
        self._begin = self._end = 0  # frames
        self._bytes = bytearray()

    def add(self, offset: int, pcm: bytes) -> None:
        """Remember what goes on at a frame, and forget what is too old."""
        if offset != self._end:
            self._bytes.clear()
            self._begin = offset
        self._bytes += pcm
        self._end = offset + len(pcm) // self._size
        begin = max(self._begin, self._end - self._bound)
        del self._bytes[: (begin - self._begin) * self._size]
        self._begin = begin

    def differs(self, offset: int, pcm: bytes) -> bool:
        """Whether bytes from a frame on are others than those remembered, where they meet."""
        start = max(offset, self._begin)
        theirs, at = pcm[(start - offset) * self._size :], (start - self._begin) * self._size
        ours = self._bytes[at : at + len(theirs)]
        return theirs[: len(ours)] != ours


class AudioReceiver:
    """One session's audio as the client sends it, in order and without a hole.

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
        """Take in sample frames; returns what they become, float32 (n,) at 16 kHz, or ``None`` for a repeated range.

        Args:
            limit: the first frame that the credit does not cover.

        Raises:
            BadAudio: for bytes that are not whole, finite frames.
            AudioConflict: for a repeated range with other bytes than the newest 10 s had there; the first stay.
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
        """Take in a stretch that the client lost: silence, float32 (n,) at 16 kHz, block by block.

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
        """Take in what the journal kept."""
        if isinstance(record, GapRecord):
            yield from self.gap(record.offset, record.frames, record.end)
        elif (samples := self.audio(record.offset, record.pcm, record.end)) is not None:
            yield samples

    def end(self, total: int) -> Samples:
        """No more audio follows; returns what the resampler holds back.

        Raises:
            BadEnd: where ``total`` is not what was received.
        """
        if total != self.received:
            raise BadEnd(f"end names {total} sample frames in all, and {self.received} were received")
        return self._decoder.finish()

    def seconds(self, frames: int) -> float:
        """Client frames to seconds."""
        return frames / self.format.rate

    def frames_before(self, position: int) -> int:
        """Client frames that lie before a 16 kHz sample, of those received."""
        return min(self.received, position * self.format.rate // SAMPLE_RATE)

    def _in_range(self, offset: int) -> None:
        if not 0 <= offset <= LARGEST_OFFSET:
            raise BadOffset(f"the offset must lie between 0 and {LARGEST_OFFSET}")

    def _next(self, offset: int) -> None:
        if offset > self.received:
            raise OffsetGap(f"expected offset {self.received}, found {offset}")
