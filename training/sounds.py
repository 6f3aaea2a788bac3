"""Sounds other than speech: twelve instruments, twenty sounds, and silence.

Instruments are short tunes of General MIDI programs through a soundfont. Sounds are takes of sonic-pi's samples, or
synthesised from noise and tones with random parameters. Each seed gives a different take.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from af3stream.audio import SAMPLE_RATE
from training.augment import Generator, faster
from training.corpus import Clip, save
from training.voices import Samples, read

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
SAMPLES = Path("/usr/share/sonic-pi/samples")

INSTRUMENTS = {
    "piano": (0, 48, 84),
    "xylophone": (13, 65, 96),
    "organ": (19, 48, 79),
    "accordion": (21, 55, 84),
    "guitar": (24, 43, 76),
    "violin": (40, 57, 93),
    "cello": (42, 36, 67),
    "harp": (46, 43, 86),
    "trumpet": (56, 55, 82),
    "saxophone": (65, 50, 79),
    "flute": (73, 62, 93),
    "drums": (-1, 35, 53),
}  # program, lowest note, highest note
SAMPLED = {
    "bell": ("perc_bell", "perc_bell2", "elec_bell"),
    "cash register": ("perc_till",),
    "crow": ("misc_crow",),
    "cymbal": ("drum_cymbal_open", "drum_cymbal_hard", "drum_cymbal_soft", "drum_splash_hard"),
    "door": ("perc_door",),
    "finger snap": ("perc_snap", "perc_snap2"),
    "glass": ("ambi_glass_rub", "ambi_glass_hum"),
    "record scratch": ("vinyl_scratch", "vinyl_rewind", "vinyl_backspin"),
}
TAKE_S = (2.0, 5.0)


def rain(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Many small drops over a soft hiss."""
    drops = (rng.random(len(t)) < rng.uniform(0.002, 0.01)) * rng.exponential(1, len(t))
    return np.convolve(drops, np.exp(-np.arange(60) / 12), "same") * rng.standard_normal(len(t)) + 0.1 * hiss(
        rng, t, 0.5
    )


def wind(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brown noise that swells."""
    return hiss(rng, t, 2.2) * (1 + 0.8 * np.sin(2 * np.pi * rng.uniform(0.1, 0.5) * t + rng.uniform(0, 6)))


def siren(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """A tone that rises and falls."""
    pitch = rng.uniform(600, 900) * 2 ** (rng.uniform(0.2, 0.6) * np.sin(2 * np.pi * rng.uniform(0.25, 2.5) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    return np.sin(phase) + 0.4 * np.sin(2 * phase)


def alarm(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Beeps at one pitch."""
    on = (t * rng.uniform(2, 5)) % 1 < rng.uniform(0.4, 0.6)
    square: NDArray[np.float64] = np.sign(np.sin(2 * np.pi * rng.uniform(1_200, 2_800) * t))
    return on * square * 0.5


def telephone(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two tones, trilled twenty times a second, with pauses."""
    pitch, trill = rng.uniform(450, 1_000), rng.uniform(16, 26)
    ring = np.where((t * trill) % 1 < 0.5, np.sin(2 * np.pi * pitch * t), np.sin(2 * np.pi * pitch * 1.25 * t))
    return ring * ((t * rng.uniform(0.4, 0.9)) % 1 < 0.6)


def touch_tones(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dial tones of a number."""
    every, out = rng.uniform(0.15, 0.35), np.zeros(len(t))
    for start in np.arange(0, t[-1], every):
        low, high = rng.choice([697, 770, 852, 941]), rng.choice([1_209, 1_336, 1_477])
        out += (np.sin(2 * np.pi * low * t) + np.sin(2 * np.pi * high * t)) * ((t >= start) & (t < start + 0.6 * every))
    return out


def clock(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Regular ticks."""
    return hits(rng, t, rng.uniform(0.35, 1.0), 0.0, 0.004, rng.uniform(1_800, 4_500))


def footsteps(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dull thuds, slightly irregular."""
    return hits(rng, t, rng.uniform(0.4, 0.7), 0.04, 0.03, rng.uniform(70, 160)) + 0.02 * hiss(rng, t, 1)


def engine(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """A low buzz of many harmonics."""
    base = rng.uniform(25, 70) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * t))
    phase = 2 * np.pi * np.cumsum(base) / SAMPLE_RATE
    buzz = sum((np.sin(k * phase + rng.uniform(0, 6)) / k**0.7 for k in range(1, 24)), np.zeros(len(t)))
    return buzz + 0.5 * hiss(rng, t, 1)


def applause(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Very many claps."""
    claps = (rng.random(len(t)) < rng.uniform(40, 150) / SAMPLE_RATE) * rng.uniform(0.3, 1, len(t))
    shape = np.exp(-np.arange(320) / 60) * rng.standard_normal(320)
    return np.convolve(claps, shape, "same")


def bird(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chirps."""
    out, at, high = np.zeros(len(t)), 0.1, rng.uniform(2_500, 4_500)
    while at < t[-1]:
        long = rng.uniform(0.05, 0.18)
        s = (t - at) / long
        inside = (s > 0) & (s < 1)
        pitch = high * (1 + rng.uniform(-0.3, 0.3) * s + 0.05 * np.sin(2 * np.pi * 30 * t))
        out += inside * np.sin(np.pi * s.clip(0, 1)) * np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)
        at += long + rng.choice([0.05, 0.1, 0.6])
    return out


def thunder(rng: Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """A crack and a long low roll."""
    since = t - rng.uniform(0.1, 0.5)
    later: NDArray[np.float64] = since.clip(0)
    roll: NDArray[np.float64] = np.exp(-later * rng.uniform(0.6, 1.5)) * (since > 0)
    crack: NDArray[np.float64] = np.exp(-later * 12) * (since > 0)
    return hiss(rng, t, 2.6) * roll + 0.2 * hiss(rng, t, 1) * crack


Maker = Callable[[Generator, NDArray[np.float64]], NDArray[np.float64]]
MADE: dict[str, Maker] = {
    **{"rain": rain, "wind": wind, "siren": siren, "alarm": alarm, "telephone": telephone, "touch tones": touch_tones},
    **{
        "clock": clock,
        "footsteps": footsteps,
        "engine": engine,
        "applause": applause,
        "bird": bird,
        "thunder": thunder,
    },
}
SOUNDS = (*SAMPLED, *MADE)


def hiss(rng: Generator, t: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    """Return noise whose power falls with frequency by the exponent ``slope``, of unit variance."""
    spectrum = np.fft.rfft(rng.standard_normal(len(t)))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** (slope / 2)
    noise = np.fft.irfft(spectrum, len(t))
    return noise / np.float64(noise.std())


def hits(
    rng: Generator, t: NDArray[np.float64], every: float, loose: float, dies_s: float, pitch: float
) -> NDArray[np.float64]:
    """Return strokes every ``every`` seconds, each a decaying tone."""
    out, at = np.zeros(len(t)), rng.uniform(0.05, every)
    while at < t[-1]:
        since = t - at
        out += (
            (since > 0) * np.exp(-since.clip(0) / dies_s) * np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * since)
        )
        at += every + rng.normal(0, loose)
    return out


def take(name: str, rng: Generator) -> Samples:
    """Return one take of an instrument, a sound or ``silence``, (n,) at 16 kHz."""
    seconds = rng.uniform(*TAKE_S)
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    if name in INSTRUMENTS:
        return tune(name, rng, seconds)
    if name in SAMPLED:
        samples = faster(read(SAMPLES / f"{rng.choice(SAMPLED[name])}.flac"), rng.uniform(0.8, 1.25))[: len(t)]
        gap = np.zeros(int(rng.uniform(0.1, 0.6) * SAMPLE_RATE), np.float32)
        repeated = [np.concatenate([samples, gap])] * int(rng.integers(1, 1 + max(1, len(t) // len(samples))))
        return np.concatenate([gap, *repeated])[: int(TAKE_S[1] * SAMPLE_RATE)]
    if name == "silence":
        return (10 ** rng.uniform(-6, -3) * rng.standard_normal(len(t))).astype(np.float32)
    made = MADE[name](rng, t)
    peak = float(np.abs(made).max())
    return (0.3 * made / (peak + 1e-9)).astype(np.float32)


def tune(name: str, rng: Generator, seconds: float) -> Samples:
    """Return a short tune on an instrument, with some chords."""
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "tune.mid", Path(folder) / "tune.wav"
        midi.write_bytes(_midi(name, rng, seconds))
        options = ["-ni", "-q", "-r", str(SAMPLE_RATE), "-g", "0.6", "-F", str(wav)]
        subprocess.run(["fluidsynth", *options, str(SOUNDFONT), str(midi)], check=True, capture_output=True)
        return read(wav)[: int(seconds * SAMPLE_RATE)]


def _midi(name: str, rng: Generator, seconds: float) -> bytes:
    """Return a Standard MIDI File with 500 ticks a second."""
    program, low, high = INSTRUMENTS[name]
    channel = 9 if program < 0 else 0
    scale = [n for n in range(low, high + 1) if program < 0 or (n - low) % 12 in (0, 2, 4, 5, 7, 9, 11)]
    events = [] if program < 0 else [(0, bytes([0xC0, program]))]
    beat, at, place = int(rng.integers(80, 300)), 0, int(rng.integers(len(scale)))
    while at < seconds * 500:
        place = int(np.clip(place + rng.integers(-3, 4), 0, len(scale) - 1))
        long, loud = beat * int(rng.choice([1, 1, 2])), int(rng.integers(60, 120))
        together = (0, 2, 4) if rng.random() < 0.2 else (0,)
        for note in {scale[min(place + step, len(scale) - 1)] for step in together}:
            events += [(at, bytes([0x90 | channel, note, loud])), (at + long, bytes([0x80 | channel, note, 0]))]
        at += long
    track, now = b"", 0
    for when, message in sorted(events):
        track += _length(when - now) + message
        now = when
    track += b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 250) + b"MTrk" + struct.pack(">I", len(track)) + track


def _length(value: int) -> bytes:
    """Encode a variable-length quantity."""
    digits = [value & 127]
    while value := value >> 7:
        digits.append(128 | value & 127)
    return bytes(reversed(digits))


def described(name: str) -> str:
    """Return the target text of a sound's frames."""
    return f"({name})"


def takes(count: int, seed: int) -> Iterator[Clip]:
    """Yield ``count`` takes of each instrument and each sound."""
    for name in (*INSTRUMENTS, *SOUNDS):
        for number in range(count):
            samples = take(name, np.random.default_rng([seed, number, *name.encode()]))
            peak = max(1e-4, float(np.abs(samples).max()))
            yield Clip((samples / peak * 12_000).astype(np.int16), described(name), f"sound {name}")


def build(folder: Path, count: int, seed: int) -> None:
    """Write the shard of takes if it is missing; its number is after those of spoken shards."""
    path = folder / f"9{seed % 1_000:03}.npz"
    if not path.exists():
        save(path, list(takes(count, seed)))
