"""Speech of people: the dialogue of three adventure games with dozens of actors, transcribed by Whisper base.

The games are packages of Debian whose licences permit use, change and distribution. The recordings are short, at 11
kHz, in eight bits or MP3, and noisy. Recordings with uncertain or looping transcripts are left out.
"""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import soundfile
import soxr

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.whisper import Decoded
from training.config import Config
from training.corpus import Clip, save, trimmed
from training.score import bare
from training.voices import Samples
from training.writer import Writer, chunks

GAMES: Final = Path("/usr/share/scummvm")
RATE: Final = 11_025  # all speech of the games
SKY_HEADER: Final = 22  # bytes before the samples
VALIDATED: Final = 50  # one in so many recordings is for validation
SHARD: Final = 600  # recordings in a shard
SURE: Final = -0.45  # lowest mean log-probability of a token for a certain transcript
SILENT: Final = 0.5  # highest no-speech probability for a certain transcript
SECONDS: Final = (0.4, 14.0)  # length of a line; others are left out
LONGEST_WORD: Final = 24  # letters
FIRST_SHARD: Final = 8_000


@dataclass(frozen=True)
class Recording:
    """A line of a game.

    Attributes:
        game: name of the game.
        file: path below ``GAMES``.
        place, size: byte range in the file.
    """

    game: str
    file: str
    place: int
    size: int


def steel_sky() -> list[Recording]:
    """Yield lines of Beneath a Steel Sky: samples after a header.

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
            start = (place & 0x7FFFFF) << 4 if place >> 23 else place
            found.append(Recording("sky", "beneath-a-steel-sky/sky.dsk", start + SKY_HEADER, size - SKY_HEADER))
    return found


def amazon_queen() -> list[Recording]:
    """Yield lines of Flight of the Amazon Queen: one MP3 each.

    ``queen.1c`` begins with 13 bytes and a count; its entries are a name of 12 bytes, a byte, place and size, all
    big-endian (ScummVM, engines/queen). Speech ends in ``.SB``.
    """
    name = "flight-of-the-amazon-queen/queen.1c"
    with (GAMES / name).open("rb") as file:
        (count,) = struct.unpack(">13xH", file.read(15))
        entries = struct.iter_unpack(">12sxII", file.read(21 * count))
        return [Recording("queen", name, *at) for line, *at in entries if line.rstrip(b"\0").endswith(b".SB")]


def drascula() -> list[Recording]:
    """Yield lines of Drascula: one file of samples each, ``.ALS`` (ScummVM, engines/drascula)."""
    files = sorted((GAMES / "drascula/en").glob("*.ALS"))
    return [Recording("drascula", str(path.relative_to(GAMES)), 0, path.stat().st_size) for path in files]


def heard(recording: Recording) -> Samples:
    """Read a recording without silence around it, (n,) float32 at 16 kHz; empty if it cannot be read."""
    with (GAMES / recording.file).open("rb") as file:
        file.seek(recording.place)
        data = file.read(recording.size)
    if recording.game == "queen":
        try:
            samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
        except soundfile.LibsndfileError:
            return np.zeros(0, np.float32)
        assert rate == RATE
    else:
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if not len(samples):
        return np.zeros(0, np.float32)
    return trimmed(np.clip(soxr.resample(samples, RATE, SAMPLE_RATE), -1, 1).astype(np.float32))


def believed(written: Decoded) -> str:
    """Return the text if the transcript is certain, plain and does not loop; otherwise an empty string."""
    if written.score < SURE or written.silence > SILENT:
        return ""
    plain = written.text.replace("\u2019", "'")
    fine = plain.isascii() and any(map(str.isalpha, plain)) and not any(c in "[](){}*@#_/<>" for c in plain)
    return plain if fine and not looping(plain) else ""


def looping(text: str) -> bool:
    """Return whether three words repeat or a word is too long, which shows that Whisper loops."""
    words = bare(text)
    phrases = list(zip(words, words[1:], words[2:], strict=False))
    return len({*phrases}) < len(phrases) or any(len(word) > LONGEST_WORD for word in words)


def build(folder: Path, config: Config) -> None:
    """Write the missing shards of people's speech, and one for validation."""
    recordings = list[Recording]()
    for games in (
        [*steel_sky(), *amazon_queen()],
        drascula(),
    ):  # shuffled separately, so that a game added later does not change the order
        Random(config.seed).shuffle(games)
        recordings += games
    recordings = recordings[: config.corpus.people]
    kept: list[tuple[Path, Sequence[Recording]]] = [
        (folder / "validation" / f"{FIRST_SHARD}.npz", recordings[::VALIDATED])
    ]
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
    """Yield the clips of recordings with certain transcripts."""
    short, long = (int(s * SAMPLE_RATE) for s in SECONDS)
    pairs = [(line.game, samples) for line in recordings if short <= len(samples := heard(line)) <= long]
    for (game, samples), written in zip(pairs, writer.write([samples for _, samples in pairs]), strict=True):
        if text := believed(written):
            yield Clip((samples * 32_767).astype(np.int16), text, f"people {game}")
