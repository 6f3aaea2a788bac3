"""Evaluation data: held-out recordings of people, conversations of held-out texts and voices, sounds and silence.

The recordings of Debian's asterisk-core-sounds-en and pocketsphinx-testdata are for evaluation only. They
are not used for training, tuning or the choice of a checkpoint.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import soundfile

from af3stream.audio import SAMPLE_RATE
from training import augment, questions, sounds, texts
from training.augment import Generator
from training.corpus import Clip
from training.questions import TURN, Asked
from training.voices import Samples, read

ASTERISK = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
ASTERISK_TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
RECORDINGS = Path(__file__).parents[1] / "tests" / "recordings"
WORDS_MIN = 6
NOISES_DB = (20, 10, 5)  # signal-to-noise ratios
PAUSE_S = 0.7  # pause between sentences, which ends an utterance


@dataclass(frozen=True)
class Recording:
    """A held-out recording of a person, and its text."""

    path: Path
    text: str
    source: str


@dataclass(frozen=True)
class Conversation:
    """Sentences of held-out texts in held-out voices, and questions about them.

    Attributes:
        windows: windows as the service cuts them, (n,) at 16 kHz each.
        snr_db: signal-to-noise ratio; infinite without noise.
    """

    windows: tuple[Samples, ...]
    sentences: tuple[str, ...]
    voices: tuple[str, ...]
    asked: tuple[Asked, ...]
    snr_db: float

    @property
    def noise(self) -> str:
        """``clean``, or the signal-to-noise ratio."""
        return "clean" if np.isinf(self.snr_db) else f"{self.snr_db:.0f} dB"

    def voices_of(self, sentence: str) -> list[str]:
        """Return the voices that say a sentence; empty if it is none of the sentences."""
        return [voice for said, voice in zip(self.sentences, self.voices, strict=True) if said == sentence]


def prompts() -> list[Recording]:
    """Return prompts of at least six words, of one speaker, at 8 kHz."""
    found = []
    for line in gzip.decompress(ASTERISK_TEXTS.read_bytes()).decode("utf-8", "replace").splitlines():
        name, _, text = line.partition(": ")
        path = ASTERISK / f"{name.strip()}.wav"
        if len(text.split()) >= WORDS_MIN and not re.search(r"[\[\]<>(]", text) and path.exists():
            found.append(Recording(path, spelled(text), "asterisk"))
    return found


def librivox() -> list[Recording]:
    """Return five recordings of one reader, at 16 kHz."""
    found = []
    for line in (RECORDINGS / "transcription.txt").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"(?:<s> )?(.*?)(?: </s>)? \((\S+)\)$", line):
            found.append(Recording(RECORDINGS / f"{match[2]}.wav", match[1], "librivox"))
    return found


def noisy(recordings: Sequence[Recording], folder: Path, seed: int) -> Iterator[Recording]:
    """Return the recordings in pink noise of three levels; ``source`` is the level."""
    rng = np.random.default_rng(seed)
    for snr_db in NOISES_DB:
        for recording in recordings:
            speech = read(recording.path)
            background = sounds.hiss(rng, np.arange(len(speech)) / SAMPLE_RATE, 1.0)
            path = folder / f"{recording.path.stem}-{snr_db}.wav"
            soundfile.write(path, augment.at_level(augment.at_snr(speech, background, snr_db), -24), SAMPLE_RATE)
            yield Recording(path, recording.text, f"{snr_db} dB")


def spelled(text: str) -> str:
    """Replace digits by words, as they are spoken."""
    return re.sub(r"\d+", lambda digits: texts.in_words(int(digits[0])), text)


def conversations(clips: Sequence[Clip], count: int, seconds: float, seed: int) -> Iterator[Conversation]:
    """Return conversations of about ``seconds`` each, two in three without noise.

    Args:
        clips: folder of validation clips.
    """
    random, rng = Random(seed), np.random.default_rng(seed)
    speech = [clip for clip in clips if clip.of_speech]
    turns = [clip for clip in speech if TURN.match(clip.text)]
    for number in range(count):
        snr_db = (np.inf, np.inf, 20.0)[number % 3]
        chosen = _distinct(random, turns, 3)
        length = sum(len(clip.samples) / SAMPLE_RATE + PAUSE_S for clip in chosen)
        for clip in random.sample(speech, len(speech)):
            if length > seconds:
                break
            if clip.text not in {other.text for other in chosen}:
                chosen.append(clip)
                length += len(clip.samples) / SAMPLE_RATE + PAUSE_S
        random.shuffle(chosen)
        sentences = [clip.text for clip in chosen]
        absent = [clip.text for clip in random.sample(speech, 30) if clip.text not in sentences]
        asked = questions.about_speech(random, sentences, absent, 10)
        voices = tuple(clip.voice for clip in chosen)
        yield Conversation(tuple(_windows(rng, chosen, snr_db)), tuple(sentences), voices, tuple(asked), snr_db)


def _distinct(random: Random, turns: Sequence[Clip], count: int) -> list[Clip]:
    """Return turns of people with different names."""
    chosen: dict[str, Clip] = {}
    for clip in random.sample(turns, len(turns)):
        match = TURN.match(clip.text)
        assert match is not None
        chosen.setdefault(next(filter(None, match.groups()[:3])), clip)
    return list(chosen.values())[:count]


def _windows(rng: Generator, clips: Sequence[Clip], snr_db: float) -> Iterator[Samples]:
    """Join clips with pauses, and cut at the first pause after 15 s."""
    parts: list[Samples] = []
    pause = np.zeros(int(PAUSE_S * SAMPLE_RATE), np.float32)
    for clip in clips:
        parts += [augment.at_level(clip.sound, -24), pause]
        if sum(map(len, parts)) > 15 * SAMPLE_RATE:
            yield _noisy(rng, np.concatenate(parts), snr_db)
            parts = []
    if parts:
        yield _noisy(rng, np.concatenate(parts), snr_db)


def _noisy(rng: Generator, samples: Samples, snr_db: float) -> Samples:
    if np.isinf(snr_db):
        return samples
    return augment.at_snr(samples, augment.noise(rng, len(samples), ()), snr_db)


@dataclass(frozen=True)
class Listened:
    """A question about a sound; a right answer has one of the words."""

    kind: Literal["heard", "which"]
    question: str
    any_of: tuple[str, ...]

    def right(self, answer: str) -> bool:
        """Return whether an answer has one of the words."""
        return any(re.search(rf"\b{re.escape(word)}", answer.lower()) for word in self.any_of)


VOICE = ("speak", "speech", "voice", "talk")
SILENCE = ("silen", "quiet", "nothing", "no sound")


def asked_of(name: str, which: Sequence[str] = ()) -> list[Listened]:
    """Return questions about a sound.

    Args:
        which: accepted synonyms.
    """
    if name in ("speech", "silence"):
        return [Listened("heard", "What do you hear?", VOICE if name == "speech" else SILENCE)]
    if name in sounds.INSTRUMENTS or name == "music":
        kind, which_question = ("music", name), "Which instrument is playing?"
    else:
        kind, which_question = ("sound", name), "Which sound is it?"
    asked = [Listened("heard", "What do you hear?", (*kind, *which))]
    return asked if name == "music" else [*asked, Listened("which", which_question, (name, *which))]


def heard(count: int, seed: int) -> Iterator[tuple[str, Samples, list[Listened]]]:
    """Yield takes of each instrument, each sound and silence: name, samples, questions."""
    for name in (*sounds.INSTRUMENTS, *sounds.SOUNDS, "silence"):
        for number in range(count):
            samples = sounds.take(name, np.random.default_rng([seed, number, *name.encode()]))
            if name != "silence":
                samples = augment.at_level(samples, -22)
            yield name, samples, asked_of(name)


# Ten recordings of packages that training does not use: name, synonyms, file. They were chosen before evaluation.
OTHER_SOUNDS = (
    ("bell", ("chime",), "sounds/freedesktop/stereo/bell.oga"),
    ("alarm", ("beep",), "sounds/freedesktop/stereo/alarm-clock-elapsed.oga"),
    ("telephone", ("phone", "ring"), "sounds/freedesktop/stereo/phone-incoming-call.oga"),
    ("telephone", ("phone", "ring"), "sounds/phone.wav"),
    ("applause", ("clap",), "games/frozen-bubble/snd/applause.ogg"),
    ("clock", ("tick",), "games/pingus/data/sounds/tick.wav"),
    ("music", (), "games/frozen-bubble/snd/frozen-mainzik-1p.ogg"),
    ("music", (), "games/frozen-bubble/snd/introzik.ogg"),
    ("music", (), "sounds/startup3.wav"),
    ("speech", (), "sounds/freedesktop/stereo/audio-channel-front-center.oga"),
)
OTHER_S = 8.0  # longest part of each


def other_sounds() -> Iterator[tuple[str, Samples, list[Listened]]]:
    """Yield the ten recordings of other packages, each with its hardest question."""
    for name, which, file in OTHER_SOUNDS:
        samples = read(Path("/usr/share") / file)[: int(OTHER_S * SAMPLE_RATE)]
        yield Path(file).stem, augment.at_level(samples, -22), asked_of(name, which)[-1:]


def nothing(seconds: float, seed: int) -> Iterator[tuple[str, Samples]]:
    """Yield audio without speech: silence, hum, white and pink noise, music; ``seconds`` of each."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hum = 0.2 * np.sin(2 * np.pi * 50 * t) + 0.1 * np.sin(2 * np.pi * 150 * t)
    tunes = [sounds.tune(str(rng.choice([*sounds.INSTRUMENTS])), rng, 12) for _ in range(int(seconds // 12) + 1)]
    yield "silence", np.zeros(len(t), np.float32)
    yield "hum", hum.astype(np.float32)
    yield "white noise", (0.1 * rng.standard_normal(len(t))).astype(np.float32)
    yield "pink noise", (0.08 * sounds.hiss(rng, t, 1.0)).astype(np.float32)
    yield "music", np.concatenate(tunes)[: len(t)]
