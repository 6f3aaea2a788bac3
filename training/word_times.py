"""Recordings of people that are spliced at known times, and how far the word times of captions are off.

The recordings are held out: they measure, and nothing is tuned on them.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Final, Literal

import numpy as np
import soundfile

from af3stream.audio import SAMPLE_RATE
from af3stream.protocol.messages import Word
from training import exams, score
from training.augment import Generator, at_level
from training.voices import Samples, read

Kind = Literal["words", "sentences"]

KINDS: Final[tuple[Kind, ...]] = ("words", "sentences")
FRAME: Final = SAMPLE_RATE // 200  # 5 ms
SOUND_DB: Final = -35.0  # a recording begins with the first frame so far below its loudest one
# The shortest and the longest pause between two recordings.
PAUSES_S: Final[dict[Kind, tuple[float, float]]] = {"words": (0.02, 0.3), "sentences": (0.1, 0.6)}
TOGETHER: Final[dict[Kind, int]] = {"words": 12, "sentences": 4}  # recordings in one splice
LEVEL_DB: Final = -24.0  # of each recording
NOISE: Final = 1e-3  # RMS of the background
NUMBER: Final = re.compile(r"digits/(h-)?\d+|letters/.*")  # the captioner may write these as digits and signs


@dataclass(frozen=True)
class Splice:
    """Recordings one after another.

    Attributes:
        samples: (n,) at 16 kHz.
        text: all that is said.
        starts: the place of a word in the text, and when it begins in seconds; of words whose time is known.
    """

    samples: Samples
    text: str
    starts: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Found:
    """A word that is in the captions, and how many seconds its time is after the true one."""

    text: str
    late_s: float


def single_words() -> list[exams.Recording]:
    """Return prompts of one word of four letters or more, without numbers."""
    found = []
    for line in gzip.decompress(exams.ASTERISK_TEXTS.read_bytes()).decode("utf-8", "replace").splitlines():
        name, _, text = line.partition(": ")
        path = exams.ASTERISK / f"{name.strip()}.wav"
        if re.fullmatch(r"[A-Za-z]{4,}\.?", text.strip()) and not NUMBER.fullmatch(name) and path.exists():
            found.append(exams.Recording(path, text.strip(), "words"))
    return found


def sentences() -> list[exams.Recording]:
    """Return recordings of at least six words."""
    return [*exams.librivox(), *exams.prompts()]


def splices(kind: Kind, count: int, seed: int) -> Iterator[Splice]:
    """Splice recordings with short pauses; of each one, the first word's time is known."""
    rng = np.random.default_rng(seed)
    recordings = single_words() if kind == "words" else sentences()
    for _ in range(count):
        chosen = rng.choice(len(recordings), TOGETHER[kind], replace=False)
        yield _spliced(rng, [recordings[at] for at in chosen], PAUSES_S[kind])


def _spliced(rng: Generator, recordings: Sequence[exams.Recording], pauses_s: tuple[float, float]) -> Splice:
    parts, words, starts, at = list[Samples](), list[str](), list[tuple[int, float]](), 0
    for recording in recordings:
        pause = np.zeros(round(rng.uniform(*pauses_s) * SAMPLE_RATE), np.float32)
        sound = _sound(at_level(read(recording.path), LEVEL_DB))
        starts.append((len(words), (at + len(pause)) / SAMPLE_RATE))
        words += score.bare(recording.text)
        parts += [pause, sound]
        at += len(pause) + len(sound)
    samples = np.concatenate([*parts, np.zeros(SAMPLE_RATE, np.float32)])
    noisy = samples + NOISE * rng.standard_normal(len(samples)).astype(np.float32)
    return Splice(noisy, " ".join(words), tuple(starts))


def _sound(samples: Samples) -> Samples:
    """A recording without the silence at both ends."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-10)
    loud = np.flatnonzero(level > level.max() + SOUND_DB)
    return samples[loud[0] * FRAME : (loud[-1] + 1) * FRAME]


def found(splice: Splice, words: Sequence[Word]) -> list[Found]:
    """Return the words with a known time that the captions have, too."""
    said = splice.text.split()
    heard = [(bare, word.start) for word in words for bare in score.bare(exams.spelled(word.text))[:1]]
    matcher = SequenceMatcher(None, said, [bare for bare, _ in heard], autojunk=False)
    places = {
        block.a + offset: block.b + offset for block in matcher.get_matching_blocks() for offset in range(block.size)
    }
    return [Found(said[at], heard[places[at]][1] - start) for at, start in splice.starts if at in places]


def write(splice: Splice, path: Path) -> None:
    """Write a splice as a file."""
    soundfile.write(path, splice.samples.clip(-1, 1), SAMPLE_RATE)
