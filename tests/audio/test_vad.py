"""The voice detector: 20 ms frames, voiced and loud."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.audio.pcm import Samples
from af3stream.audio.vad import VoiceDetector


def vowel(samples: int, level: float = 0.1) -> Samples:
    """Harmonics of 120 Hz, which webrtcvad takes for a voice."""
    time = np.arange(samples) / 16_000
    harmonics = sum(np.sin(2 * np.pi * 120 * n * time) / n for n in range(1, 30))
    return (level * harmonics).astype(np.float32)


def test_a_vowel_is_voiced_and_silence_is_not() -> None:
    frames = VoiceDetector(2, -55.0).push(np.concatenate([vowel(16_000), np.zeros(16_000, np.float32)]))
    assert [(frame.start, frame.end) for frame in frames] == [(at, at + 320) for at in range(0, 32_000, 320)]
    assert all(frame.voiced and frame.loud for frame in frames[:50])
    assert not any(frame.loud or frame.voiced for frame in frames[50:])


@pytest.mark.parametrize(("dbfs", "loud"), [(-54.0, True), (-56.0, False)])
def test_quieter_than_the_threshold_is_silence(dbfs: float, loud: bool) -> None:
    quiet = vowel(16_000)
    quiet *= 10 ** (dbfs / 20) / np.sqrt(np.mean(quiet**2))
    frames = VoiceDetector(0, -55.0).push(quiet)
    assert {frame.loud for frame in frames[1:]} == {loud}
    assert any(frame.voiced for frame in frames) == loud


def test_the_rms_is_that_of_the_samples() -> None:
    square = np.tile(np.array([0.25, -0.25], np.float32), 160)
    full = np.full(320, 2.0, np.float32)  # clipped
    frames = VoiceDetector(2, -55.0).push(np.concatenate([square, full]))
    assert [frame.rms for frame in frames] == [0.25, 32_767 / 32_768]


def test_a_flush_ends_the_frame_early_and_the_next_begins_there() -> None:
    detector = VoiceDetector(2, -55.0)
    assert detector.push(vowel(100)) == []
    (short,) = detector.flush()
    assert (short.start, short.end) == (0, 100)
    assert short.rms == pytest.approx(np.sqrt(np.mean(vowel(100) ** 2)), rel=1e-3)
    assert detector.flush() == []
    (whole,) = detector.push(vowel(320))
    assert (whole.start, whole.end) == (100, 420)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=20))
def test_the_chunking_does_not_matter(sizes: list[int]) -> None:
    samples = np.concatenate([vowel(5_000), np.zeros(1_000, np.float32), vowel(3_000, 0.01)])
    chunked, at = VoiceDetector(2, -55.0), 0
    frames = []
    for size in sizes:
        frames += chunked.push(samples[at : at + size])
        at += size
    frames += chunked.push(samples[at:]) + chunked.flush()
    whole = VoiceDetector(2, -55.0)
    assert frames == whole.push(samples) + whole.flush()
