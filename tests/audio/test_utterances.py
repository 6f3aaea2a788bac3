"""When an utterance begins, ends and is cut. Defaults: 120 of 300 ms begin it, 240 ms of padding, a pause of 600 ms."""

from __future__ import annotations

import numpy as np
import pytest
from audio_scenes import MS, SECOND, assert_samples, cut, segmenter, sound, spans_ms

from af3stream.audio.events import SpeechStarted, SpeechStopped, Utterance
from af3stream.errors import ConfigError

SILENCE = "." * SECOND


@pytest.mark.parametrize(
    ("scene", "settings", "expected_ms"),
    [
        pytest.param("", {}, [], id="nothing"),
        pytest.param(SILENCE, {}, [], id="silence"),
        pytest.param("~" * SECOND, {}, [], id="sound without a voice"),
        pytest.param(SILENCE + "#" * 5 + SILENCE, {}, [], id="100 ms of voice is too little"),
        pytest.param(SILENCE + "#" * 6 + SILENCE, {}, [(760, 1360)], id="120 ms begin, padded on both sides"),
        pytest.param(SILENCE + "#.#.#.#.#.#" + SILENCE, {}, [(760, 1460)], id="scattered within 300 ms"),
        pytest.param(SILENCE + "#..#..#..#..#..#" + SILENCE, {}, [], id="scattered over 320 ms"),
        pytest.param("#" * 20 + SILENCE, {}, [(0, 640)], id="never before the session"),
        pytest.param("#" * 20, {}, [(0, 400)], id="never after its end"),
        pytest.param("#" * 20 + "." * 29 + "#" * 20 + SILENCE, {}, [(0, 1620)], id="580 ms is no pause"),
        pytest.param("#" * 20 + "." * 30 + "#" * 20 + SILENCE, {}, [(0, 640), (760, 1640)], id="600 ms is a pause"),
        pytest.param(
            "#" * 20 + "." * 10 + "#" * 20 + SILENCE,
            {"pause_ms": 200},
            [(0, 600), (600, 1200)],
            id="padding never reaches into the utterance before, nor into the future",
        ),
        pytest.param(
            "." * 50 + "#" + SILENCE, {"min_speech_ms": 1, "speech_pad_ms": 0}, [(1000, 1020)], id="one frame"
        ),
        pytest.param(
            "#" * 6 + "." * 5 + "#" + SILENCE,
            {"pause_ms": 40, "speech_pad_ms": 20},
            [(0, 140), (200, 260)],
            id="a frame of the utterance before counts, and begins no other",
        ),
        pytest.param("#" * 50 + SILENCE, {"silence_dbfs": -3.0}, [], id="a voice below the silence threshold"),
    ],
)
def test_bounds(scene: str, settings: dict[str, float], expected_ms: list[tuple[float, float]]) -> None:
    samples = sound(scene)
    events = cut(samples, **settings)
    assert spans_ms(events, Utterance) == expected_ms
    assert_samples(events, samples)


@pytest.mark.parametrize(
    ("scene", "settings", "expected_ms"),
    [
        pytest.param(
            "#" * 2 * SECOND + "#" * 20 + "+" * 5 + "#" * 25 + "#" * SECOND + SILENCE,
            {"utterance_max_s": 3.0},
            [(0, 2450), (2450, 4240)],
            id="in the middle of the quietest 100 ms",
        ),
        pytest.param(
            "#" * SECOND + "." * 5 + "#" * 45 + "#" * 20 + "+" * 5 + "#" * 25 + "#" * SECOND + SILENCE,
            {"utterance_max_s": 3.0},
            [(0, 2450), (2450, 4240)],
            id="of the last third, not of the whole",
        ),
        pytest.param(
            "#" * 2 * SECOND + "#" * 20 + "+" * 5 + "#" * 25 + "#" * SECOND + SILENCE,
            {"utterance_max_s": 30.0, "window_max_s": 3.0},
            [(0, 2450), (2450, 4240)],
            id="never longer than a window",
        ),
        pytest.param(
            "#" * 3 * SECOND + SILENCE, {"utterance_max_s": 3.0}, [(0, 3000)], id="padding alone cuts nothing"
        ),
        pytest.param(
            "#" * 5 * SECOND + SILENCE,
            {"utterance_max_s": 2.0},
            [(0, 1390), (1390, 2790), (2790, 4190), (4190, 5240)],
            id="as often as needed",
        ),
    ],
)
def test_a_long_utterance_is_cut(
    scene: str, settings: dict[str, float], expected_ms: list[tuple[float, float]]
) -> None:
    samples = sound(scene)
    events = cut(samples, **settings)
    assert spans_ms(events, Utterance) == expected_ms
    assert_samples(events, samples)


def test_speech_starts_and_stops_around_pauses_not_around_cuts() -> None:
    events = cut(sound("#" * 4 * SECOND + SILENCE + "#" * SECOND), utterance_max_s=3.0)
    bounds = [(type(event), event.at / MS) for event in events if isinstance(event, SpeechStarted | SpeechStopped)]
    assert bounds == [(SpeechStarted, 0), (SpeechStopped, 4240), (SpeechStarted, 4760), (SpeechStopped, 6000)]


def test_the_open_utterance_is_told_as_it_would_end_now() -> None:
    subject = segmenter()
    subject.push(sound(SILENCE))
    assert subject.open_utterance is None
    events = subject.push(sound("#" * 10))
    assert SpeechStarted(760 * MS) in events
    span = subject.open_utterance
    assert span is not None
    assert (span.start, span.end) == (760 * MS, 1200 * MS)
    assert np.array_equal(subject.read(span.start, span.end), sound("." * 12 + "#" * 10))
    subject.push(sound("." * 25))
    span = subject.open_utterance
    assert span is not None
    assert span.end == 1440 * MS  # the padding, not the whole silence


def test_a_flush_in_mid_utterance_loses_no_sample() -> None:
    samples = sound("#" * 3 * SECOND + SILENCE)
    subject = segmenter()
    events = subject.push(samples[:16_100])  # within a frame
    events += subject.flush()
    assert [event for event in events if isinstance(event, Utterance)] == [Utterance(0, 0, 16_100, samples[:16_100])]
    assert subject.open_utterance is None
    events += subject.push(samples[16_100:]) + subject.flush()
    first, second = (event for event in events if isinstance(event, Utterance))
    assert first.end == second.start == 16_100
    assert second.end == 16_100 + 100 * 320 + 240 * MS  # the last frame with a voice on the grid after it, and padding
    assert_samples(events, samples)


def test_the_first_voiced_frame_after_a_flush_goes_on_where_the_utterance_ended() -> None:
    subject = segmenter()
    subject.push(sound("#" * 20))
    subject.flush()
    assert subject.push(sound("#")) == [SpeechStarted(400 * MS)]


def test_flushing_silence_or_nothing_gives_no_utterance() -> None:
    subject = segmenter()
    assert subject.flush() == []
    events = subject.push(sound(SILENCE)) + subject.flush() + subject.flush()
    assert spans_ms(events, Utterance) == []


def test_the_past_is_forgotten() -> None:
    subject = segmenter()
    subject.push(sound(SILENCE * 3))
    with pytest.raises(IndexError, match="samples 0 to 320 asked for, 39360 to 48000 held"):
        subject.read(0, 320)


def test_limits_below_two_seconds_are_refused() -> None:
    for settings in ({"utterance_max_s": 1.9}, {"window_max_s": 1.9}):
        with pytest.raises(ConfigError, match="expected at least 2 s"):
            segmenter(**settings)
