"""Audio files: read whole, read as the service would hear them, or streamed block by block.

libsndfile reads WAV, FLAC, Ogg and MP3; what it does not know (M4A, MP4, WebM, ...) FFmpeg's libraries read, through
PyAV, with no ``ffmpeg`` program installed.
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
UNKNOWN_FRAMES = (1 << 63) - 1  # libsndfile's length of what it cannot measure


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A file's audio: ``samples`` (n, channels) float32 at ``rate`` Hz."""

    samples: Samples
    rate: int


@dataclass(frozen=True, slots=True)
class _Opened:
    """An open file: its rate in Hz, its channels, and its ``blocks`` (n, channels) float32, of which there is one.

    Attributes:
        seconds: the length that the file states; ``None`` if it states none.
    """

    rate: int
    channels: int
    blocks: Iterator[Samples]
    seconds: float | None


def read(path: Path) -> Recording:
    """The whole file.

    Raises:
        SourceError: when there is no such file, or no audio in it.
    """
    source = _open(path)
    return Recording(np.concatenate(list(source.blocks)), source.rate)


def read_mono_16k(path: Path) -> Samples:
    """The samples the service hears when the file is streamed to it.  # (n,) float32

    Raises:
        SourceError: as ``read`` does.
    """
    audio_format, blocks = stream_blocks(path, block_ms=1_000)
    decoder = PcmDecoder(audio_format)
    return np.concatenate([*map(decoder.decode, blocks), decoder.finish()])


def length(path: Path) -> float | None:
    """Return the seconds of audio that a file states; ``None`` if it states none.

    Raises:
        SourceError: as ``read`` does.
    """
    return _open(path).seconds


def stream_blocks(path: Path, block_ms: int) -> tuple[AudioFormat, Iterator[bytes]]:
    """The file as 16-bit PCM, in blocks of ``block_ms`` and a last one that may be shorter.

    It keeps its own rate within 8 to 48 kHz (a higher one becomes 48 kHz, a lower one 16 kHz), and its channels, one or
    two (more are averaged into one).

    Raises:
        SourceError: as ``read`` does; also while the blocks are consumed, where the file is damaged further on.
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
    """Audio Flamingo 3's own offline loading rule.  # (n,) float32

    A signal that is never negative is mapped from [0, max] to [-1, 1]; any other is divided by its peak. Silence and no
    samples at all stay as they are.
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
    """The same bytes in pieces of ``size``, and a last one that may be shorter."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) >= size:
            yield bytes(waiting[:size])
            del waiting[:size]
    if waiting:
        yield bytes(waiting)
