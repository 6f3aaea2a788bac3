"""Give the engine the audio of a closed window again, sample for sample as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from af3stream.audio.events import Window
from af3stream.audio.pcm import AudioFormat, PcmDecoder, Samples
from af3stream.engine.contract import AudioSegment
from af3stream.errors import DataLoss
from af3stream.journal.records import AudioInput, GapRecord

Recorded = Callable[
    [int], Iterator[AudioInput]
]  # a session's durable audio from a frame on; the first may begin before it


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed window.

    Attributes:
        received: client frames that had arrived when it closed; it follows from them.
        ended: whether the audio ends with it.
        samples: float32 (n,) at 16 kHz; ``None`` once they are durable.
    """

    received: int
    ended: bool
    samples: Samples | None


class AudioReplay:
    """Holds the samples of closed windows until they are durable; after that, reads them from the journal.

    Implements `af3stream.engine.contract.AudioSource`: `read` is called from the engine's thread, all else from the
    session's.

    Args:
        recorded: what the journal has; ``None`` if there is no journal.
        keep: whether samples stay in memory without a journal; otherwise only until they are encoded.
    """

    def __init__(self, audio_format: AudioFormat, recorded: Recorded | None, *, keep: bool) -> None:
        self._format = audio_format
        self._recorded = recorded
        self._keep = keep
        self._durable = 0
        self._windows: dict[int, Closed] = {}  # by the window's first sample

    @property
    def rereads(self) -> bool:
        """Whether a window can be read after it was encoded."""
        return self._keep or self._recorded is not None

    def fetch(self, segments: Sequence[AudioSegment]) -> int:
        """All are in memory or on disk."""
        return len(segments)

    def read(self, segment: AudioSegment) -> Samples:
        """Return the samples of a closed window, float32 (end - start,).

        Raises:
            DataLoss: if they are gone.
        """
        window = self._windows.get(segment.start)
        if window and window.samples is not None:
            return window.samples
        if window is None or self._recorded is None:
            raise DataLoss("samples", segment.start, segment.end)
        return heard_again(self._recorded, self._format, segment.start, segment.end, ended=window.ended)

    def closed(self, window: Window, received: int, *, ended: bool) -> None:
        """A window closed, when so many client frames had arrived; ``ended``: and no more will."""
        durable = self._recorded is not None and received <= self._durable
        self._windows[window.start] = Closed(received, ended, None if durable else window.samples)

    def durable(self, frames: int) -> None:
        """So many client frames are on disk: windows that follow from them need no samples in memory."""
        self._durable = frames
        if self._recorded is None:
            return
        for start, window in self._windows.items():
            if window.samples is not None and window.received <= frames:
                self._windows[start] = replace(window, samples=None)

    def encoded(self, segment: AudioSegment) -> None:
        """A window is encoded, or will not be."""
        if not self.rereads:
            self._windows.pop(segment.start, None)

    def forget_before(self, position: int) -> None:
        """No question can hear windows that begin before ``position``, in samples at 16 kHz."""
        for start in [start for start in self._windows if start < position]:
            del self._windows[start]


def heard_again(recorded: Recorded, audio_format: AudioFormat, start: int, end: int, *, ended: bool) -> Samples:
    """The samples [start, end) at 16 kHz, as they came out of the decoder when they arrived.  # (end - start,) float32

    Args:
        ended: the audio ends with them, so that what a resampler holds back belongs to them.

    Raises:
        DataLoss: where the journal does not give them back.
    """
    decoder = PcmDecoder(audio_format, start)
    first, frame = decoder.position, decoder.frame
    parts: list[Samples] = []
    count = 0
    for record in recorded(decoder.frame):
        for samples in _decoded(decoder, record, frame):
            parts.append(samples)
            count += len(samples)
        frame = record.end
        if first + count >= end:
            break
    else:
        parts += [decoder.finish()] if ended else []
    samples = np.concatenate([*parts, np.zeros(0, np.float32)])[start - first : end - first]
    if len(samples) != end - start:
        raise DataLoss("samples", start + len(samples), end)
    return samples


def _decoded(decoder: PcmDecoder, record: AudioInput, frame: int) -> Iterator[Samples]:
    """What a record becomes from a frame on."""
    if isinstance(record, GapRecord):
        yield from decoder.silence(record.end - frame)
    elif pcm := record.pcm[(frame - record.offset) * decoder.format.bytes_per_frame :]:
        yield decoder.decode(pcm)
