"""Encode a closed segment: 16-bit audio as FLAC, any other audio as zlib. Both are lossless."""

from __future__ import annotations

import io
import zlib
from collections.abc import Generator, Iterator

import numpy as np
import soundfile

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import DataLoss
from af3stream.journal.segments import Codec, SealedFile

ZLIB_LEVEL = 1  # higher levels make PCM hardly smaller


def codec_of(audio_format: AudioFormat, pcm: bytes) -> Codec:
    """Return the codec of a segment. FLAC cannot hold a segment without audio."""
    return "flac" if pcm and audio_format.format == "pcm_s16le" else "zlib"


def encode(codec: Codec, pcm: bytes, audio_format: AudioFormat) -> Generator[None, None, bytes]:
    """Encode one second per step; the generator returns the bytes of the file."""
    blocks = _blocks(pcm, audio_format)
    if codec == "zlib":
        compressor, parts = zlib.compressobj(ZLIB_LEVEL), []
        for block in blocks:
            parts.append(compressor.compress(block))
            yield
        return b"".join([*parts, compressor.flush()])
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", audio_format.rate, audio_format.channels, "PCM_16", format="FLAC") as flac:
        for block in blocks:
            flac.write(np.frombuffer(block, "<i2").reshape(-1, audio_format.channels))
            yield
    return file.getvalue()


def decode(codec: Codec, data: bytes, audio_format: AudioFormat) -> Iterator[bytes]:
    """Yield the audio of a file, about one second at a time.

    Raises:
        ValueError: if the file is incomplete.
    """
    try:
        if codec == "zlib":
            decompressor = zlib.decompressobj()
            for at in range(0, len(data), 1 << 16):
                yield decompressor.decompress(data[at : at + (1 << 16)])
            if not decompressor.eof:
                raise ValueError("the file ends too early")
            return
        with soundfile.SoundFile(io.BytesIO(data)) as flac:
            while len(block := flac.read(audio_format.rate, dtype="int16", always_2d=True)):
                yield block.astype("<i2", copy=False).tobytes()
    except (zlib.error, soundfile.LibsndfileError) as error:
        raise ValueError(str(error)) from None


def unsealed(file: SealedFile, audio_format: AudioFormat) -> bytes:
    """Yield a sealed segment's audio, as the client sent it.

    Raises:
        DataLoss: if the file is missing or damaged.
    """
    segment = file.segment
    try:
        pcm = b"".join(decode(segment.codec, (file.folder / segment.name).read_bytes(), audio_format))
    except (OSError, ValueError):
        pcm = None
    if pcm is None or zlib.crc32(pcm) != segment.checksum:
        raise DataLoss("frames", segment.first, segment.end)
    return pcm


def _blocks(pcm: bytes, audio_format: AudioFormat) -> Iterator[bytes]:
    size = audio_format.rate * audio_format.bytes_per_frame
    return (pcm[at : at + size] for at in range(0, len(pcm), size))
