"""How a closed window is heard again once its embeddings are dropped: sample for sample as it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

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
    """A window whose audio is not durable yet.

    Attributes:
        received: client frames that had arrived when it closed; it follows from them.
    """

    received: int
    sound: AudioSegment
    again: Callable[[], Samples]


class AudioReplay:
    """Gives every closed window a way to its samples: from the journal, or, until they are durable, from memory.

    Args:
        recorded: what the journal has; ``None`` where nothing is kept.
        keep: whether samples stay in memory where nothing is kept; otherwise their embeddings are never dropped.
    """

    def __init__(self, audio_format: AudioFormat, recorded: Recorded | None, *, keep: bool) -> None:
        self._format = audio_format
        self._recorded = recorded
        self._keep = keep
        self._durable = 0
        self._waiting: deque[Closed] = deque()

    def closed(self, sound: AudioSegment, window: Window, received: int, *, ended: bool) -> None:
        """A window closed, when so many client frames had arrived; ``ended``: and no more will."""
        if self._recorded is None:
            sound.again = (lambda: window.samples) if self._keep else None
            return
        sound.again = lambda: window.samples
        again = partial(heard_again, self._recorded, self._format, window.start, window.end, ended=ended)
        self._waiting.append(Closed(received, sound, again))
        self.durable(self._durable)

    def durable(self, frames: int) -> None:
        """So many client frames are on disk: windows that follow from them need no samples in memory."""
        self._durable = frames
        while self._waiting and self._waiting[0].received <= frames:
            closed = self._waiting.popleft()
            closed.sound.again = closed.again


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
