"""PCM as it arrives: its format, its checks, and the one decoder to mono float32 at 16 kHz."""

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
    """Every mu-law byte's sample.  # (256,) float32

    ITU-T G.711, table 2: the bits arrive inverted; sign s, segment e and step m make
    (-1)^s * (((8 m + 132) << e) - 132) on a 16-bit scale, whose largest value is 32124.
    """
    bits = ~np.arange(256, dtype=np.uint8)
    segment, step = ((bits >> 4) & 7).astype(np.int32), (bits & 15).astype(np.int32)
    magnitude = ((8 * step + 132) << segment) - 132
    return (np.where(bits & 0x80, -magnitude, magnitude) / 32_768).astype(np.float32)


_MULAW = _mulaw_table()


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What a stream's bytes mean: interleaved frames of ``channels`` samples.

    Attributes:
        format: how one sample is written.
        rate: frames a second, in Hz.
        channels: samples a frame.

    Raises:
        BadFormat: when one of them is not taken, naming what was found and what is expected.
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
        """The format in words: ``pcm_s16le, 16000 Hz, 1 channel``."""
        return f"{self.format}, {self.rate} Hz, {self.channels} channel{'s' if self.channels > 1 else ''}"

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one sample of every channel."""
        return _DTYPES[self.format].itemsize * self.channels

    def frames(self, pcm: bytes) -> int:
        """Check one message's bytes and count its frames.

        Raises:
            BadAudio: when they are empty, end inside a frame, last more than 10 s, or hold a float that is not finite.
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
        """How many 16 kHz samples ``frames`` frames become, from first to finish: the duration, rounded half up."""
        return (2 * frames * SAMPLE_RATE + self.rate) // (2 * self.rate)


class PcmDecoder:
    """One stream's bytes to mono float32 at 16 kHz.

    The samples, and how many of them are ready, do not depend on how the frames are chunked. Channels are averaged,
    floats clipped to [-1, 1]. At 16 kHz every sample comes out at once; otherwise `Resampler` says what is held back.
    n frames become ``format.samples(n)`` samples in all.

    Attributes:
        frame: the frame it is to be given first.
        position: the sample it gives first.

    Args:
        position: a sample that is wanted; it gives that and all after it, and some before it.
    """

    def __init__(self, audio_format: AudioFormat, position: int = 0) -> None:
        self.format = audio_format
        self.frame = self.position = position
        self._resampler: Resampler | None = None
        if audio_format.rate != SAMPLE_RATE:
            self._resampler = Resampler(audio_format.rate, position // STRETCH)
            self.frame, self.position = self._resampler.frame, self._resampler.position

    def decode(self, pcm: bytes) -> Samples:
        """Take in whole frames; returns what is ready.  # (n,) float32

        Raises:
            BadAudio: as ``AudioFormat.frames`` does; nothing is taken in then.
        """
        self.format.frames(pcm)
        raw = np.frombuffer(pcm, _DTYPES[self.format.format]).reshape(-1, self.format.channels)
        return self._resample(_to_float(raw, self.format.format).mean(axis=1, dtype=np.float32))

    def silence(self, frames: int) -> Iterator[Samples]:
        """Take in ``frames`` zero frames, a second at a time, as the iterator is consumed.  # each (n,) float32"""
        while frames > 0:
            block = min(frames, self.format.rate)
            yield self._resample(np.zeros(block, np.float32))
            frames -= block

    def finish(self) -> Samples:
        """What the resampler still holds back; the decoder takes nothing in after it.  # (n,) float32"""
        return self._resampler.finish() if self._resampler else np.zeros(0, np.float32)

    def _resample(self, mono: Samples) -> Samples:
        return self._resampler.push(mono) if self._resampler else mono


def _to_float(raw: NDArray[Any], encoding: Encoding) -> Samples:
    if encoding == "mulaw":
        return np.take(_MULAW, raw)
    if encoding == "pcm_s16le":
        return raw.astype(np.float32) / np.float32(32_768)
    return np.clip(raw.astype(np.float32), -1.0, 1.0)
