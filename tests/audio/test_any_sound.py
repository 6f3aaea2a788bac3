"""What holds for any sound, any chunking and any settings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from audio_scenes import LEVELS, MS, assert_samples, assert_tiled, segmenter, sound
from hypothesis import example, given, settings
from hypothesis import strategies as st

from af3stream.audio.events import Event, Skipped, SpeechStarted, SpeechStopped, Utterance, Window
from af3stream.audio.pcm import Samples
from af3stream.audio.segmenter import Mode, Segmenter
from af3stream.config import AudioConfig

WINDOW_MAX_S = 3.0

scenes = st.lists(
    st.tuples(st.sampled_from(sorted(LEVELS)), st.integers(1, 150)).map(lambda part: part[0] * part[1]),
    min_size=1,
    max_size=12,
).map("".join)
configs = st.fixed_dictionaries(
    {
        "min_speech_ms": st.integers(1, 300),
        "speech_pad_ms": st.sampled_from([0, 20, 100, 240, 1_000]),
        "pause_ms": st.sampled_from([1, 100, 600, 2_000]),
        "utterance_max_s": st.sampled_from([2.0, 2.5, 30.0]),
        "window_min_s": st.sampled_from([0.01, 1.0, 2.0, 5.0]),
        "gap_max_s": st.sampled_from([0.01, 0.5, 1.0, 5.0]),
    }
)
SHORTEST = {
    "min_speech_ms": 1,
    "speech_pad_ms": 0,
    "pause_ms": 1,
    "utterance_max_s": 2.0,
    "window_min_s": 0.01,
    "gap_max_s": 0.01,
}
modes: st.SearchStrategy[Mode] = st.sampled_from(["speech", "everything"])


def run(subject: Segmenter, samples: Samples, cuts: list[int]) -> list[Event]:
    """The events of ``samples``, pushed in pieces that end at ``cuts``."""
    bounds = [0, *sorted(cut % (len(samples) + 1) for cut in cuts), len(samples)]
    events = [event for start, end in pairwise(bounds) for event in subject.push(samples[start:end])]
    return events + subject.flush()


@settings(max_examples=150, deadline=None)
@given(scenes, st.integers(0, 319), modes, configs, st.lists(st.integers(min_value=0), max_size=30))
@example("#.........,", 1, "everything", SHORTEST, [])
def test_the_rules_hold(scene: str, tail: int, mode: Mode, config: dict[str, float], cuts: list[int]) -> None:
    samples = np.concatenate([sound(scene), sound("#")[:tail]])
    events = run(segmenter(mode, WINDOW_MAX_S, **config), samples, cuts)

    assert events == run(segmenter(mode, WINDOW_MAX_S, **config), samples, [])
    assert_samples(events, samples)
    assert_tiled(events, len(samples))

    windows = [event for event in events if isinstance(event, Window)]
    assert all(1_600 <= window.end - window.start <= WINDOW_MAX_S * 16_000 for window in windows)

    utterances = [event for event in events if isinstance(event, Utterance)]
    limit = min(config["utterance_max_s"], WINDOW_MAX_S) * 16_000
    assert all(0 < utterance.end - utterance.start <= limit for utterance in utterances)
    assert all(before.end <= after.start for before, after in pairwise(utterances))

    bounds = [event for event in events if isinstance(event, SpeechStarted | SpeechStopped)]
    assert [type(bound) for bound in bounds] == [SpeechStarted, SpeechStopped] * (len(bounds) // 2)
    assert all(before.at <= after.at for before, after in pairwise(bounds))

    # What is captioned can be asked about: every utterance of 0.1 s and more lies in windows.
    for skipped in (event for event in events if isinstance(event, Skipped)):
        overlaps = (min(skipped.end, each.end) - max(skipped.start, each.start) for each in utterances)
        assert all(overlap < 1_600 for overlap in overlaps)


@settings(max_examples=50, deadline=None)
@given(scenes, modes, st.integers(0, 240_000), st.lists(st.integers(min_value=0), max_size=10))
def test_a_flush_anywhere_loses_nothing(scene: str, mode: Mode, at: int, cuts: list[int]) -> None:
    samples = sound(scene)
    at %= len(samples) + 1
    subject = segmenter(mode, WINDOW_MAX_S)
    events = [*subject.push(samples[:at]), *subject.flush()]
    assert_tiled(events, at)
    events += run(subject, samples[at:], cuts)
    assert_tiled(events, len(samples))
    assert_samples(events, samples)


@settings(max_examples=50, deadline=None)
@given(scenes, modes)
def test_no_window_holds_more_silence_than_a_gap_may_last(scene: str, mode: Mode) -> None:
    samples = np.concatenate([sound(scene), sound("." * 500), sound(scene)])
    config = AudioConfig(gap_max_s=0.5)
    events = run(segmenter(mode, 30.0, gap_max_s=0.5), samples, [])
    longest = 0.5 * 16_000 + 2 * config.speech_pad_ms * MS
    for window in (event for event in events if isinstance(event, Window)):
        heard = np.flatnonzero(window.samples)
        silences = np.diff(heard, prepend=-1, append=len(window.samples)) - 1
        # An utterance holds up to a pause of silence of its own.
        assert silences.max() <= max(longest, config.pause_ms * MS)


@pytest.mark.parametrize("chunk", [1, 7, 319, 320, 321, 16_000])
def test_the_real_detector_hears_the_same_in_any_chunking(chunk: int) -> None:
    rng = np.random.default_rng(7)
    hum = np.sin(np.arange(24_000) * np.arange(1, 20)[:, None] * 2 * np.pi * 130 / 16_000).sum(axis=0) / 40
    samples = np.concatenate([hum, np.zeros(12_000), hum[:8_000], 0.02 * rng.standard_normal(8_000)]).astype(np.float32)
    subject, whole = (Segmenter(AudioConfig(), "speech", 2.0) for _ in range(2))
    events = run(subject, samples, list(range(0, len(samples), chunk)))
    assert events == run(whole, samples, [])
    assert any(isinstance(event, Utterance) for event in events)
    assert_samples(events, samples)
