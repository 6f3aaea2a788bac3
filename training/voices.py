"""Voices for training: neural voices and the synthesizers of Debian, at varied rate and pitch."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from af3stream.audio import SAMPLE_RATE
from training import neural

Samples = NDArray[np.float32]

ACCENTS = ("en-us", "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc")
VARIANTS = (
    *("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "klatt", "klatt2", "klatt4"),
    *("Alicia", "Andrea", "Annie", "belinda", "linda", "steph", "anika", "aunty", "Alex", "Andy", "Denis"),
    *("Diogo", "Gene", "Henrique", "Jacky", "Lee", "Marco", "Michael", "adam", "antonio", "benjamin", "boris"),
    *("david", "edward", "iven", "john", "max", "miguel", "norbert", "pablo", "paul", "rob", "robert", "travis"),
)


DRAWN = "drawn"  # not a voice of espeak-ng: each sentence gets a random variant


@dataclass(frozen=True)
class Voice:
    """One voice of one synthesizer.

    Attributes:
        share: relative frequency of the voice.
        pitch: mean of the drawn pitch: fundamental frequency in Hz, or espeak's 0 to 99; 0 if not set.
    """

    engine: Literal["kokoro", "piper", "flite", "espeak", "festival"]
    name: str
    share: float
    pitch: int = 0


TRAINED = (
    Voice("kokoro", "mixed", 14),
    Voice("piper", "joe", 18),
    Voice("flite", "rms", 12, 98),
    Voice("flite", "slt", 12, 170),
    Voice("flite", "awb", 9, 118),
    Voice("flite", "kal16", 4, 105),
    Voice("festival", "kal_diphone", 8),
    *(Voice("espeak", name, 14 / len(VARIANTS), 50) for name in VARIANTS),
    Voice("espeak", DRAWN, 30, 50),
)
HELD_OUT = (
    Voice("kokoro", "jf_gongitsune", 2),
    Voice("festival", "ked_diphone", 1),
    Voice("festival", "cmu_us_slt_arctic_hts", 1),
    Voice("espeak", "Mario", 0.34, 50),
    Voice("espeak", "shelby", 0.33, 50),
    Voice("espeak", "zac", 0.33, 50),
)


def drawn(random: Random, voices: Sequence[Voice]) -> Voice:
    """Draw a voice by the shares."""
    return random.choices(voices, [voice.share for voice in voices])[0]


def speak(voice: Voice, text: str, random: Random) -> Samples:
    """Synthesise a text in a voice at random rate and pitch; (n,) at 16 kHz, within ±1."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        SPEAKERS[voice.engine](voice, text, random, wav)
        return read(wav)


def _kokoro(voice: Voice, text: str, random: Random, wav: Path) -> None:
    neural.kokoro(neural.KOKORO_STYLES if voice.name == "mixed" else (voice.name,), text, random, wav)


def _piper(_voice: Voice, text: str, random: Random, wav: Path) -> None:
    neural.joe(text, random, wav)


def _flite(voice: Voice, text: str, random: Random, wav: Path) -> None:
    stretch = random.uniform(0.78, 1.25)
    pitch = voice.pitch * random.uniform(0.85, 1.2)
    options = ["--setf", f"duration_stretch={stretch:.2f}", "--setf", f"int_f0_target_mean={pitch:.0f}"]
    _run("flite", "-voice", voice.name, *options, "-t", text, "-o", str(wav))


def _espeak(voice: Voice, text: str, random: Random, wav: Path) -> None:
    accent = random.choice(ACCENTS)
    rate, pitch = random.randint(125, 210), voice.pitch + random.randint(-25, 25)
    data = ["--path", str(_espeak_data(wav.parent, variant(random)))] if voice.name == DRAWN else []
    _run("espeak-ng", *data, "-v", f"{accent}+{voice.name}", "-s", str(rate), "-p", str(pitch), "-w", str(wav), text)


def _espeak_data(folder: Path, drawn: str) -> Path:
    """Fill a folder with espeak-ng's data and one more voice variant, ``DRAWN``."""
    own = _espeaks_own()
    data = folder / own.name
    variants = data / "voices" / "!v"
    variants.mkdir(parents=True)
    for path in own.iterdir():
        if path.name != "voices":
            (data / path.name).symlink_to(path)
    (variants / DRAWN).write_text(drawn, encoding="ascii")
    return folder


@cache
def _espeaks_own() -> Path:
    """Return the folder of espeak-ng's data."""
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    return Path(version.partition("Data at: ")[2].strip())


def variant(random: Random) -> str:
    """Return a random voice variant of espeak-ng: formant frequencies, strengths and widths, and voicing.

    The format is https://github.com/espeak-ng/espeak-ng/blob/master/docs/voices.md: frequency, strength and width of a
    formant in per cent of the accent's own, pitch in Hz.
    """
    low, throat = random.uniform(60, 220), random.uniform(0.84, 1.22)
    lines = ["language variant", f"name {DRAWN}", f"pitch {low:.0f} {low * random.uniform(1.15, 1.6):.0f}"]
    for formant in range(9):
        frequency = 100 * throat * random.gauss(1, 0.05)
        strength = random.uniform(60, 140) if formant < 5 else random.uniform(0, 120)
        lines.append(f"formant {formant} {frequency:.0f} {strength:.0f} {random.uniform(60, 180):.0f}")
    if random.random() < 0.6:
        lines += [f"flutter {random.randint(0, 15)}", f"roughness {random.randint(0, 5)}"]
    if random.random() < 0.4:
        lines += [f"voicing {random.randint(40, 250)}", f"consonants {random.randint(50, 150)}"]
    if random.random() < 0.3:
        lines.append(
            f"tone 600 {random.randint(100, 255)} 1200 {random.randint(60, 255)} 2000 {random.randint(40, 255)}"
        )
    if random.random() < 0.15:
        lines.append(f"klatt {random.randint(1, 5)}")
    if random.random() < 0.5:
        lines.append("stressAdd " + " ".join(str(random.randint(-20, 30)) for _ in range(8)))
    return "\n".join(lines) + "\n"


def _festival(voice: Voice, text: str, random: Random, wav: Path) -> None:
    stretch = f"(Parameter.set 'Duration_Stretch {random.uniform(0.85, 1.2):.2f})"
    _run("text2wave", "-eval", f"(voice_{voice.name})", "-eval", stretch, "-o", str(wav), words=text)


SPEAKERS: Final = {"kokoro": _kokoro, "piper": _piper, "flite": _flite, "espeak": _espeak, "festival": _festival}


def _run(*command: str, words: str | None = None) -> None:
    subprocess.run(command, input=words, text=True, check=True, capture_output=True, timeout=60)


def read(path: Path) -> Samples:
    """Read a sound file as one channel at 16 kHz."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Samples = samples.mean(1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return np.clip(mono, -1, 1).astype(np.float32)
