"""What people say: the recorded dialogue of two adventure games, a few dozen actors, written down by Whisper base.

Both games are packages of Debian whose licences let anyone use, change and pass them on. Their recordings are short,
11 kHz and far from clean. What Whisper is not sure of, or repeats, is left out.
"""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import soundfile
import soxr

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.whisper import Heard
from training.config import Config
from training.corpus import SECONDS, Clip, save, trimmed
from training.score import bare
from training.voices import Samples
from training.writer import Writer, chunks

GAMES: Final = Path("/usr/share/scummvm")
RATE: Final = 11_025  # of both games' speech
VALIDATED: Final = 50  # every so many recordings, one is kept for validation
SHARD: Final = 600  # recordings that a shard is made of
SURE: Final = -0.45  # mean log-probability of a token, above which words are believed
SILENT: Final = 0.5  # probability that nobody speaks, above which they are not
FIRST_SHARD: Final = 8_000

Recording = tuple[str, int, int]  # the game; where in its file; bytes


def steel_sky() -> list[Recording]:
    """Beneath a Steel Sky: unsigned 8-bit samples behind a header of 22 bytes.

    ``sky.dnr`` is a count and entries of eight bytes: a number, 24 bits of place (in sixteens where the highest is
    set) and 24 bits of which the lowest 22 are the size. Speech has the numbers from 50,000 (ScummVM, engines/sky).
    """
    index = (GAMES / "beneath-a-steel-sky/sky.dnr").read_bytes()
    found = []
    for number, place, size in (
        (int.from_bytes(e[:2], "little"), int.from_bytes(e[2:5], "little"), int.from_bytes(e[5:], "little") & 0x3FFFFF)
        for e in (index[at : at + 8] for at in range(4, len(index) - 7, 8))
    ):
        if 50_000 <= number < 60_000:
            found.append(("sky", (place & 0x7FFFFF) << 4 if place >> 23 else place, size))
    return found


def amazon_queen() -> list[Recording]:
    """Flight of the Amazon Queen: an MP3 for each line.

    ``queen.1c`` begins with 13 bytes and a count; its entries are a name of 12 bytes, a byte, place and size, all
    big-endian (ScummVM, engines/queen). Speech ends in ``.SB``.
    """
    with (GAMES / "flight-of-the-amazon-queen/queen.1c").open("rb") as file:
        (count,) = struct.unpack(">13xH", file.read(15))
        entries = struct.iter_unpack(">12sxII", file.read(21 * count))
        return [("queen", place, size) for name, place, size in entries if name.rstrip(b"\0").endswith(b".SB")]


FILES: Final = {"sky": "beneath-a-steel-sky/sky.dsk", "queen": "flight-of-the-amazon-queen/queen.1c"}
HEADER: Final = 22  # bytes before the samples of a steel_sky recording


def heard(recording: Recording) -> Samples:
    """A recording, without the silence around it; (n,) float32 at 16 kHz, empty where it cannot be read."""
    game, place, size = recording
    with (GAMES / FILES[game]).open("rb") as file:
        file.seek(place)
        data = file.read(size)
    if game == "sky":
        samples = (np.frombuffer(data[HEADER:], np.uint8).astype(np.float32) - 128) / 128
    else:
        try:
            samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
        except soundfile.LibsndfileError:
            return np.zeros(0, np.float32)
        assert rate == RATE
    if not len(samples):
        return np.zeros(0, np.float32)
    return trimmed(np.clip(soxr.resample(samples, RATE, SAMPLE_RATE), -1, 1).astype(np.float32))


def believed(written: Heard) -> str:
    """The text, where Whisper is sure of it and it is words that may be said, none of them in a loop; or nothing."""
    if written.score < SURE or written.silence > SILENT:
        return ""
    plain = written.text.replace("\u2019", "'")
    fine = plain.isascii() and any(map(str.isalpha, plain)) and not any(c in "[](){}*@#_/<>" for c in plain)
    return plain if fine and not looping(plain) else ""


def looping(text: str) -> bool:
    """Whether any three words come twice in a row of words, as where Whisper repeats itself."""
    words = bare(text)
    phrases = list(zip(words, words[1:], words[2:], strict=False))
    return len({*phrases}) < len(phrases)


def build(folder: Path, config: Config) -> None:
    """Write shards of what people say, and one of validation, where they are missing."""
    recordings = [*steel_sky(), *amazon_queen()]
    Random(config.seed).shuffle(recordings)
    recordings = recordings[: config.corpus.people]
    kept = [(folder / "validation" / f"{FIRST_SHARD}.npz", recordings[::VALIDATED])]
    rest = [recording for place, recording in enumerate(recordings) if place % VALIDATED]
    kept += [(folder / "corpus" / f"{FIRST_SHARD + n}.npz", part) for n, part in enumerate(chunks(rest, SHARD))]
    missing = [(path, part) for path, part in kept if not path.exists()]
    if not missing:
        return
    writer = Writer(config.threads)
    for path, part in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        clips = list(sure(writer, part))
        save(path, clips)
        seconds = sum(len(clip.samples) for clip in clips) / SAMPLE_RATE
        took = time.monotonic() - begun
        print(f"people {path.name} {len(clips)} of {len(part)}, {seconds:.0f} s of speech in {took:.0f} s", flush=True)


def sure(writer: Writer, recordings: Sequence[Recording]) -> Iterator[Clip]:
    """The clips of those recordings whose words are sure."""
    short, long = (int(s * SAMPLE_RATE) for s in SECONDS)
    pairs = [(game, samples) for game, *place in recordings if short <= len(samples := heard((game, *place))) <= long]
    for (game, samples), written in zip(pairs, writer.write([samples for _, samples in pairs]), strict=True):
        if text := believed(written):
            yield Clip((samples * 32_767).astype(np.int16), text, f"people {game}")
