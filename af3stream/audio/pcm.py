"""Check PCM in the client's format, and decode it to mono float32 at 16 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.resampling import STRETCH, Resampler
from af3stream.errors import BadAudio, BadFormat

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw"]
Samples = NDArray[np.float32]

RATES = range(8_000, 48_001)  # Hz
MAX_MESSAGE_S = 10

_DTYPES: dict[str, np.dtype[Any]] = {
    "pcm_s16le": np.dtype("<i2"),
    "pcm_f32le": np.dtype("<f4"),
    "mulaw": np.dtype("u1"),
}


def _mulaw_table() -> Samples:
    """Return the sample of each mu-law byte, (256,) float32.

    Source: ITU-T G.711, table 2. The bits are inverted on the wire. Sign s, segment e and step m give
    (-1)^s * (((8 m + 132) << e) - 132) on a 16-bit scale, whose largest value is 32124.
    """
    bits = ~np.arange(256, dtype=np.uint8)
    segment, step = ((bits >> 4) & 7).astype(np.int32), (bits & 15).astype(np.int32)
    magnitude = ((8 * step + 132) << segment) - 132
    return (np.where(bits & 0x80, -magnitude, magnitude) / 32_768).astype(np.float32)


_MULAW = _mulaw_table()


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The format of a stream: interleaved frames of ``channels`` samples.

    Attributes:
        format: the encoding of one sample.
        rate: frames per second, in Hz.
        channels: samples per frame, 1 or 2.

    Raises:
        BadFormat: if a value is not supported; the message names the value and the expected ones.
    """

    format: Encoding = "pcm_s16le"
    rate: int = SAMPLE_RATE
    channels: int = 1

    def __post_init__(self) -> None:
        if self.format not in _DTYPES:
            raise BadFormat(f"format is {self.format}, expected one of {', '.join(get_args(Encoding))}")
        if type(self.rate) is not int or self.rate not in RATES:
            raise BadFormat(f"rate is {self.rate}, expected an integer from {RATES[0]} to {RATES[-1]} Hz")
        if type(self.channels) is not int or self.channels not in (1, 2):
            raise BadFormat(f"channels is {self.channels}, expected 1 or 2")

    def __str__(self) -> str:
        """Return the format in words: ``pcm_s16le, 16000 Hz, 1 channel``."""
        return f"{self.format}, {self.rate} Hz, {self.channels} channel{'s' if self.channels > 1 else ''}"

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one frame: a sample of each channel."""
        return _DTYPES[self.format].itemsize * self.channels

    def frames(self, pcm: bytes) -> int:
        """Check the bytes of one message, and return the number of frames.

        Raises:
            BadAudio: if they are empty, end inside a frame, last more than 10 s, or hold a float that is not finite.
        """
        if not pcm:
            raise BadAudio("the audio is empty, expected at least one frame")
        frames, rest = divmod(len(pcm), self.bytes_per_frame)
        if rest:
            raise BadAudio(
                f"{len(pcm)} bytes of {self.format} with {self.channels} channel(s), "
                f"expected a multiple of {self.bytes_per_frame}"
            )
        if frames > MAX_MESSAGE_S * self.rate:
            most = MAX_MESSAGE_S * self.rate
            raise BadAudio(
                f"{frames} sample frames in one message, expected at most {most}, which are {MAX_MESSAGE_S} s"
            )
        if self.format == "pcm_f32le" and not np.isfinite(np.frombuffer(pcm, "<f4")).all():
            raise BadAudio("the audio holds NaN or infinity, expected finite floats")
        return frames

    def samples(self, frames: int) -> int:
        """Return how many 16 kHz samples a stream of ``frames`` frames becomes: the duration, rounded half up."""
        return (2 * frames * SAMPLE_RATE + self.rate) // (2 * self.rate)


class PcmDecoder:
    """Decode the bytes of one stream to mono float32 at 16 kHz.

    The result does not depend on how the frames are chunked. Channels are averaged, and floats are clipped to [-1, 1].
    At 16 kHz every sample is returned at once; at other rates `Resampler` holds some back. In total, n frames become
    ``format.samples(n)`` samples.

    Attributes:
        frame: the first frame that must be passed in.
        position: the first sample that is returned.

    Args:
        position: the first sample that the caller needs; some before it are returned too.
    """

    def __init__(self, audio_format: AudioFormat, position: int = 0) -> None:
        self.format = audio_format
        self.frame = self.position = position
        self._resampler: Resampler | None = None
        if audio_format.rate != SAMPLE_RATE:
            self._resampler = Resampler(audio_format.rate, position // STRETCH)
            self.frame, self.position = self._resampler.frame, self._resampler.position

    def decode(self, pcm: bytes) -> Samples:
        """Decode whole frames, and return the samples that are ready, (n,) float32.

        Raises:
            BadAudio: as in ``AudioFormat.frames``; the frames are then ignored.
        """
        self.format.frames(pcm)
        raw = np.frombuffer(pcm, _DTYPES[self.format.format]).reshape(-1, self.format.channels)
        return self._resample(_to_float(raw, self.format.format).mean(axis=1, dtype=np.float32))

    def silence(self, frames: int) -> Iterator[Samples]:
        """Decode ``frames`` zero frames, a second for each item of the iterator; each item is (n,) float32."""
        while frames > 0:
            block = min(frames, self.format.rate)
            yield self._resample(np.zeros(block, np.float32))
            frames -= block

    def finish(self) -> Samples:
        """Return the samples that the resampler holds back, (n,) float32. The decoder must not be used after this."""
        return self._resampler.finish() if self._resampler else np.zeros(0, np.float32)

    def _resample(self, mono: Samples) -> Samples:
        return self._resampler.push(mono) if self._resampler else mono


def _to_float(raw: NDArray[Any], encoding: Encoding) -> Samples:
    if encoding == "mulaw":
        return np.take(_MULAW, raw)
    if encoding == "pcm_s16le":
        return raw.astype(np.float32) / np.float32(32_768)
    return np.clip(raw.astype(np.float32), -1.0, 1.0)
