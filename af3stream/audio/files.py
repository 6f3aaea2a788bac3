"""Read audio files: as a whole, as the service would decode them, or block by block.

libsndfile reads WAV, FLAC, Ogg and MP3. FFmpeg's libraries read other formats (M4A, MP4, WebM, ...) through PyAV; the
``ffmpeg`` program is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import soxr

from af3stream.audio.pcm import RATES, AudioFormat, PcmDecoder, Samples
from af3stream.errors import SourceError

BLOCK = 1 << 16  # frames read at once
FULL_SCALE = 32_768
# FFmpeg's demuxers that read one file alone: a playlist would have others opened that the file names.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,ogg,"
    "rm,tta,voc,w64,wav,wv"
)
UNKNOWN_FRAMES = (1 << 63) - 1  # the length that libsndfile gives if it is unknown


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """The audio of a file: ``samples`` (n, channels) float32 at ``rate`` Hz."""

    samples: Samples
    rate: int


@dataclass(frozen=True, slots=True)
class _Opened:
    """An open file: its rate in Hz, its channels, and at least one block (n, channels) float32.

    Attributes:
        seconds: the length that the file header states, or ``None``.
    """

    rate: int
    channels: int
    blocks: Iterator[Samples]
    seconds: float | None


def read(path: Path) -> Recording:
    """Read a whole file.

    Raises:
        SourceError: if the file cannot be read, or has no audio.
    """
    source = _open(path)
    return Recording(np.concatenate(list(source.blocks)), source.rate)


def read_mono_16k(path: Path) -> Samples:
    """Read a file as the service decodes it when it is streamed: mono at 16 kHz, (n,) float32.

    Raises:
        SourceError: as in ``read``.
    """
    audio_format, blocks = stream_blocks(path, block_ms=1_000)
    decoder = PcmDecoder(audio_format)
    return np.concatenate([*map(decoder.decode, blocks), decoder.finish()])


def length(path: Path) -> float | None:
    """Return the length in seconds that the file header states, or ``None``.

    Raises:
        SourceError: as in ``read``.
    """
    return _open(path).seconds


def stream_blocks(path: Path, block_ms: int) -> tuple[AudioFormat, Iterator[bytes]]:
    """Read a file as 16-bit PCM, in blocks of ``block_ms``; the last block may be shorter.

    A rate of 8 to 48 kHz is kept; a higher one becomes 48 kHz, a lower one 16 kHz. One or two channels are kept; more
    are averaged into one.

    Raises:
        SourceError: as in ``read``; also from the iterator, if the file is damaged.
    """
    source = _open(path)
    rate = source.rate if source.rate in RATES else 48_000 if source.rate > RATES[-1] else 16_000
    channels = source.channels if source.channels <= 2 else 1
    blocks: Iterable[Samples] = source.blocks
    if channels != source.channels:
        blocks = (block.mean(axis=1, keepdims=True, dtype=np.float32) for block in blocks)
    if rate != source.rate:
        blocks = _resampled(blocks, source.rate, rate, channels)
    audio_format = AudioFormat("pcm_s16le", rate, channels)
    size = max(1, rate * block_ms // 1_000) * audio_format.bytes_per_frame
    return audio_format, _rechunked(map(_to_pcm, blocks), size)


def normalise(samples: Samples) -> Samples:
    """Scale samples (n,) float32 as Audio Flamingo 3 does when it loads a file.

    A signal without negative values is mapped from [0, max] to [-1, 1]. Any other signal is divided by its peak.
    Silence and an empty array are returned unchanged.
    """
    peak = np.abs(samples).max(initial=np.float32(0))
    if peak == 0:
        return samples
    scaled: Samples = samples / peak
    return 2 * scaled - 1 if samples.min() >= 0 else scaled


def _open(path: Path) -> _Opened:
    try:
        _refuse(path)
        try:
            source = _open_soundfile(path)
        except soundfile.LibsndfileError:
            source = _open_av(path)
        first = next(source.blocks, None)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from None
    if first is None:
        raise SourceError(f"no audio in {path}")
    return _Opened(source.rate, source.channels, chain([first], source.blocks), source.seconds)


def _refuse(path: Path) -> None:
    if path.is_dir():
        raise SourceError(f"{path} is a folder, expected an audio file")
    with path.open("rb") as file:
        if not file.read(1):
            raise SourceError(f"{path} is empty, expected an audio file")


def _open_soundfile(path: Path) -> _Opened:
    file = soundfile.SoundFile(path)

    def blocks() -> Iterator[Samples]:
        with file:
            try:
                while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                    yield block
            except soundfile.LibsndfileError as error:
                raise SourceError(f"{path} is damaged: {error}") from None

    seconds = file.frames / file.samplerate if 0 < file.frames < UNKNOWN_FRAMES else None
    return _Opened(file.samplerate, file.channels, blocks(), seconds)


def _open_av(path: Path) -> _Opened:
    try:
        import av
    except ModuleNotFoundError:
        raise SourceError(f"{path} is no WAV, FLAC, Ogg or MP3; to read other files: pip install av") from None
    try:
        container = av.open(str(path), options={"format_whitelist": FORMATS, "protocol_whitelist": "file"})
    except av.FFmpegError:
        raise SourceError(f"{path} is not an audio file of a known kind") from None
    if not container.streams.audio:
        container.close()
        raise SourceError(f"no audio in {path}")
    stream = container.streams.audio[0]
    to_float = av.AudioResampler(format="flt")

    def blocks() -> Iterator[Samples]:
        with container:
            try:
                for frame in chain(container.decode(stream), [None]):
                    for packed in to_float.resample(frame):
                        yield packed.to_ndarray().astype(np.float32, copy=False).reshape(-1, stream.channels)
            except av.FFmpegError as error:
                raise SourceError(f"{path} is damaged: {error}") from None

    seconds = container.duration / av.time_base if container.duration else None
    return _Opened(stream.rate, stream.channels, blocks(), seconds)


def _resampled(blocks: Iterable[Samples], old: int, new: int, channels: int) -> Iterator[Samples]:
    resampler = soxr.ResampleStream(old, new, channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)


def _to_pcm(block: Samples) -> bytes:
    return np.clip(np.rint(block * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2").tobytes()


def _rechunked(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces of ``size``; the last may be shorter."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) >= size:
            yield bytes(waiting[:size])
            del waiting[:size]
    if waiting:
        yield bytes(waiting)
