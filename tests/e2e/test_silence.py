"""Where nobody speaks, nothing is written: detector, captioner and guard together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from af3stream import offline
from af3stream.engine.factory import Loaded
from af3stream.engine.whisper import Decoded, WhisperCaptioner
from tests.captioned import captioned
from tests.conftest import RECORDINGS
from tests.e2e.conftest import RunningService

pytestmark = pytest.mark.mini

SECONDS = 45
RATE = 16_000
Noise = Callable[[np.random.Generator, np.ndarray], np.ndarray]  # of the times (n,) in seconds


def pink(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(len(t)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, len(t))
    return 0.3 * noise / np.abs(noise).max()


def music(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    tune = np.zeros(len(t) + RATE)
    for start in range(0, len(t), RATE // 4):
        pitch, tone = 220 * 2 ** (rng.integers(0, 24) / 12), t[:RATE]
        tune[start : start + RATE] += 0.1 * np.exp(-3 * tone) * np.sin(2 * np.pi * pitch * tone)
        tune[start : start + RATE] += 0.05 * np.exp(-4 * tone) * np.sin(4 * np.pi * pitch * tone)
    return tune[: len(t)]


NOISES: dict[str, Noise] = {
    "silence": lambda rng, t: np.zeros(len(t)),
    "faint noise": lambda rng, t: 1e-4 * rng.standard_normal(len(t)),
    "white noise": lambda rng, t: 0.1 * rng.standard_normal(len(t)),
    "pink noise": pink,
    "hum": lambda rng, t: 0.2 * np.sin(2 * np.pi * 50 * t) + 0.1 * np.sin(2 * np.pi * 150 * t),
    "music": music,
}


@pytest.mark.parametrize("noise", NOISES)
def test_no_words_where_nobody_speaks(service: RunningService, tmp_path: Path, noise: str) -> None:
    sound = NOISES[noise](np.random.default_rng(7), np.arange(SECONDS * RATE) / RATE)
    soundfile.write(tmp_path / "noise.wav", sound.clip(-1, 1), RATE)
    heard = offline.transcribe(tmp_path / "noise.wav", service.config, service.loaded)
    assert [caption.text for caption in heard.captions] == []


def test_silence_is_never_given_to_the_model(mini: Loaded, service: RunningService, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(SECONDS * RATE), RATE)
    before = mini.engine.counters.encoder_passes, mini.engine.counters.caption_encodes
    offline.transcribe(tmp_path / "silence.wav", service.config, service.loaded)
    assert (mini.engine.counters.encoder_passes, mini.engine.counters.caption_encodes) == before


def test_a_final_that_loops_is_written_without_repeats(mini: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = mini.engine.captioner
    assert isinstance(captioner, WhisperCaptioner)
    write, written = captioner._write, list[str]()

    def looping_at_first(*args: Any, **options: Any) -> Decoded:
        heard = write(*args, **options)
        written.append(heard.text)
        return replace(heard, text="had he married, " * 40) if len(written) == 1 else heard

    monkeypatch.setattr(captioner, "_write", looping_at_first)
    heard = captioned(captioner, recorded("*0920.wav"))
    assert heard.text == written[-1] and heard.text.startswith("Had he married a more amiable woman")
    assert len(written) == 2


def test_the_same_samples_have_the_same_final_caption(mini: Loaded) -> None:
    """A caption that is made again from the journal has the words that it had."""
    finals = {captioned(mini.engine.captioner, recorded("*0870.wav")) for _ in range(3)}
    assert len(finals) == 1


def recorded(name: str) -> np.ndarray:
    """A recording, (n,) float32 at 16 kHz."""
    samples: np.ndarray = soundfile.read(next(RECORDINGS.glob(name)), dtype="float32")[0]
    return samples
