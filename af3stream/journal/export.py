"""Write a session as audio, caption and event files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec
import numpy as np
import soundfile
from numpy.typing import NDArray

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import SourceError, quoted
from af3stream.journal.facts import Recovered
from af3stream.journal.journal import Journal
from af3stream.journal.records import AudioInput, GapRecord
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.protocol.messages import Caption, CaptionUpdate, Sound, SpeakerNamed, SpeakerUpdate
from af3stream.subtitles import Cue, cues, to_srt, to_vtt

Kind = Literal["wav", "flac", "vtt", "srt", "json"]

LOST: Final = "[lost]"
LARGEST_WAV: Final = 4_000_000_000  # bytes; a longer one is written as RF64
_OF_CAPTIONS: Final = ("caption", "caption_update", "sound", "speaker_update", "speaker_named")
_DECODER: Final = msgspec.json.Decoder(Caption | CaptionUpdate | Sound | SpeakerUpdate | SpeakerNamed)
_RAW_SUBTYPES: Final = {"pcm_s16le": "PCM_16", "pcm_f32le": "FLOAT", "mulaw": "ULAW"}


def export(
    journal: Journal, session: str, folder: Path, formats: Sequence[Kind] = ("wav", "vtt", "srt", "json")
) -> list[Path]:
    """Write a session's audio, captions and events to ``folder/<session>.<format>``, and return the paths.

    Lost ranges are zeros in the audio, and ``[lost]`` in the captions. WAV holds every sample as it was sent; mu-law
    becomes the 16-bit value that it encodes. FLAC holds 16 bits, or 24 bits of float audio.

    Raises:
        NoSession: if the session does not exist.
        DataLoss: if its audio is damaged; the audio file is then removed.
        SourceError: if the format is unknown, or the folder cannot be written.
    """
    for kind in formats:
        if kind not in get_args(Kind):
            raise SourceError(f"a session is exported as {', '.join(get_args(Kind))}, not as {quoted(kind)}")
    paths = []
    try:
        for kind in formats:
            recovered = journal.recover(session)
            folder.mkdir(parents=True, exist_ok=True)
            paths.append(folder / f"{session}.{kind}")
            if kind in ("wav", "flac"):
                _write_audio(paths[-1], recovered)
            else:
                paths[-1].write_bytes(_TEXTS[kind](recovered))
    except (OSError, soundfile.LibsndfileError) as error:
        raise SourceError(f"cannot export to {folder}: {getattr(error, 'strerror', None) or error}") from None
    return paths


def _write_audio(path: Path, recovered: Recovered) -> None:
    sound = recovered.facts.format
    is_float = sound.format == "pcm_f32le"
    if path.suffix == ".flac":
        container, subtype = "FLAC", "PCM_24" if is_float else "PCM_16"
    else:
        size = recovered.durable * sound.channels * 4
        container, subtype = "RF64" if size > LARGEST_WAV else "WAV", "FLOAT" if is_float else "PCM_16"
    try:
        with soundfile.SoundFile(path, "w", sound.rate, sound.channels, subtype, format=container) as file:
            for record in recovered.audio:
                for block in _samples(record, sound):
                    file.write(block)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _samples(record: AudioInput, sound: AudioFormat) -> Iterator[NDArray[Any]]:
    """Yield the samples of a record, or zeros for a gap, one second at a time.

    Each item is (n, channels) int16, or float32 for float audio.
    """
    dtype = "float32" if sound.format == "pcm_f32le" else "int16"
    if isinstance(record, GapRecord):
        for at in range(0, record.frames, sound.rate):
            yield np.zeros((min(sound.rate, record.frames - at), sound.channels), dtype)
        return
    samples, _ = soundfile.read(
        io.BytesIO(record.pcm),
        dtype=dtype,
        always_2d=True,
        samplerate=sound.rate,
        channels=sound.channels,
        format="RAW",
        subtype=_RAW_SUBTYPES[sound.format],
        endian="LITTLE",
    )
    yield samples


def lost(recovered: Recovered) -> list[tuple[float, float]]:
    """Return the lost ranges in seconds, in order; adjacent ones are joined. Consumes the audio."""
    rate, ranges = recovered.facts.format.rate, list[tuple[int, int]]()
    for record in recovered.audio:
        if isinstance(record, GapRecord):
            touches = bool(ranges) and ranges[-1][1] == record.offset
            ranges.append((ranges.pop()[0] if touches else record.offset, record.end))
    return [(start / rate, end / rate) for start, end in ranges]


def final_captions(recovered: Recovered) -> FinalCaptions:
    """Return the final captions of a session, with their updates, sounds and the names of speakers."""
    finals = FinalCaptions()
    for event in recovered.events:
        if msgspec.json.decode(event.message)["type"] in _OF_CAPTIONS:
            finals.add(_DECODER.decode(event.message))
    return finals


def _cues(recovered: Recovered) -> list[Cue]:
    """Return the cues of final captions, sounds and lost ranges, in the order of the audio."""
    finals = final_captions(recovered)
    gaps = [Caption(-1, LOST, start, end, final=True) for start, end in lost(recovered)]
    return cues(sorted([*finals.with_sounds, *gaps], key=lambda caption: caption.start), finals.speaker)


def _json(recovered: Recovered) -> bytes:
    facts, rate = recovered.facts, recovered.facts.format.rate
    fields = {
        "session": facts.session,
        "user": facts.user,
        "format": facts.format,
        "created_at": facts.created_at,
        "model": facts.model,
        "start": msgspec.Raw(facts.start),
        "frames": recovered.durable,
        "seconds": recovered.durable / rate,
        "lost": [{"start": start, "end": end} for start, end in lost(recovered)],
        "speakers": {str(speaker): name for speaker, name in sorted(final_captions(recovered).names.items())},
        "events": [{"number": event.number, "message": msgspec.Raw(event.message)} for event in recovered.events],
    }
    return msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"


_TEXTS: Final[dict[str, Callable[[Recovered], bytes]]] = {
    "vtt": lambda recovered: to_vtt(_cues(recovered)).encode(),
    "srt": lambda recovered: to_srt(_cues(recovered)).encode(),
    "json": _json,
}
