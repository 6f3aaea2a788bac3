"""Send each range of a session's audio to its engine once.

Both ends keep the same window of the session's timeline: the sender notes which ranges the receiver has, the receiver
has their samples. The window follows from the messages alone, and their order is the same at both ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct

from af3stream.engine.captioning import Samples

Range = tuple[int, int]  # samples at 16 kHz of the session's timeline, the end exclusive

INT16 = np.dtype("<i2")
FLOAT32 = np.dtype("<f4")


class Chunk(Struct, frozen=True):
    """Samples on their way.

    Attributes:
        start: where they begin on the session's timeline.
        data: little-endian float32, or int16 if that loses nothing.
        halved: whether they are int16; 1.0 is 32,768.
    """

    start: int
    data: bytes
    halved: bool

    @property
    def samples(self) -> Samples:
        """The samples, float32 (n,).

        Raises:
            ValueError: if the data are not whole samples.
        """
        if self.halved:
            return np.frombuffer(self.data, INT16).astype(np.float32) / np.float32(32_768)
        return np.frombuffer(self.data, FLOAT32).astype(np.float32)


def packed(start: int, samples: Samples) -> Chunk:
    """Return samples, float32 (n,), as a chunk. Decoding it gives the same bits."""
    with np.errstate(over="ignore", invalid="ignore"):
        whole = (samples * 32_768).clip(-32_768, 32_767).astype(INT16)
    chunk = Chunk(start, whole.tobytes(), halved=True)
    if chunk.samples.tobytes() == samples.tobytes():
        return chunk
    return Chunk(start, samples.astype(FLOAT32, copy=False).tobytes(), halved=False)


class SentAudio:
    """The ranges of a session's audio that its engine has.

    Args:
        limit: samples before the newest one that the engine keeps.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sent: list[Range] = []  # disjoint

    def chunks(self, pieces: Sequence[tuple[int, Samples]]) -> tuple[Chunk, ...]:
        """Return what the engine lacks of the samples of a job, and note that it has them.

        Args:
            pieces: the position of the first sample, and the samples, float32 (n,).
        """
        chunks: list[Chunk] = []
        for start, samples in pieces:
            for low, high in self._missing(start, start + len(samples)):
                chunks.append(packed(low, samples[low - start : high - start]))
                self._sent.append((low, high))
        newest = max((high for _, high in self._sent), default=0)
        self._sent = [piece for piece in self._sent if piece[1] > newest - self._limit]
        return tuple(chunks)

    def _missing(self, start: int, end: int) -> list[Range]:
        gaps: list[Range] = []
        for low, high in sorted(self._sent):
            if low > start:
                gaps.append((start, min(low, end)))
            start = max(start, high)
            if start >= end:
                break
        return [gap for gap in [*gaps, (start, end)] if gap[0] < gap[1]]


class ReceivedAudio:
    """The samples of a session's audio that its gateway has sent.

    Args:
        limit: samples before the newest one that are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: dict[int, Samples] = {}  # disjoint, by the position of the first sample

    @property
    def kept(self) -> int:
        """Number of samples that are kept."""
        return sum(len(samples) for samples in self._pieces.values())

    def take(self, chunks: Iterable[Chunk], ranges: Iterable[Range]) -> list[Samples]:
        """Take the samples that came with a job; returns those of the job's ranges, float32 (n,) each.

        Raises:
            ValueError: if the gateway has not sent some of them, or has sent some twice.
        """
        for chunk in chunks:
            if chunk.start in self._pieces:
                raise ValueError(f"samples from {chunk.start} were sent twice")
            self._pieces[chunk.start] = chunk.samples
        found = [self._read(start, end) for start, end in ranges]
        newest = max((start + len(samples) for start, samples in self._pieces.items()), default=0)
        self._pieces = {
            start: samples for start, samples in self._pieces.items() if start + len(samples) > newest - self._limit
        }
        return found

    def _read(self, start: int, end: int) -> Samples:
        parts, at = [np.zeros(0, np.float32)], start
        for low in sorted(self._pieces):
            piece = self._pieces[low]
            if low <= at < low + len(piece) and at < end:
                parts.append(piece[at - low : end - low])
                at = min(end, low + len(piece))
        if at != end:
            raise ValueError(f"samples {at} to {end} were not sent")
        return np.concatenate(parts)
