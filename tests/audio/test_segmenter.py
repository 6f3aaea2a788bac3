"""When a window opens, closes and is cut, and what is skipped."""

from __future__ import annotations

import numpy as np
import pytest
from audio_scenes import MS, SECOND, assert_samples, assert_tiled, cut, segmenter, sound, spans_ms

from af3stream.audio.events import Skipped, Utterance, Window
from af3stream.audio.segmenter import Mode, Segmenter
from af3stream.config import AudioConfig

VOICE, SOUND, SILENCE = "#" * SECOND, "~" * SECOND, "." * SECOND
SHORT = {"window_max_s": 6.0, "window_min_s": 4.0, "gap_max_s": 1.0}


@pytest.mark.parametrize(
    ("mode", "scene", "expected_ms"),
    [
        pytest.param("speech", SILENCE * 5, [], id="silence is never in a window"),
        pytest.param("everything", SILENCE * 5, [], id="silence is never in a window, whatever the mode"),
        pytest.param("speech", SOUND * 5, [], id="sounds are left out of speech"),
        pytest.param("everything", SILENCE + SOUND * 2 + SILENCE * 3, [(760, 3000)], id="sounds, padded before"),
        pytest.param("speech", SILENCE + VOICE + SILENCE * 3, [(760, 2240)], id="one utterance"),
        pytest.param("everything", SILENCE + VOICE + SILENCE * 3, [(760, 2240)], id="one utterance among everything"),
        pytest.param("speech", VOICE + SILENCE + VOICE + SILENCE * 3, [(0, 3240)], id="a short gap is inside"),
        pytest.param(
            "speech",
            VOICE + "." * 74 + VOICE + SILENCE * 3,  # 1480 ms, of which 480 are padding
            [(0, 3720)],
            id="a gap of the longest allowed",
        ),
        pytest.param(
            "speech", VOICE + "." * 75 + VOICE + SILENCE * 3, [(0, 1240), (2260, 3740)], id="a longer gap is left out"
        ),
        pytest.param(
            "speech",
            VOICE * 4 + SILENCE + VOICE + SILENCE * 3,
            [(0, 4240), (4760, 6240)],
            id="closes at the first pause once long enough",
        ),
        pytest.param(
            "everything",
            VOICE * 4 + SOUND * 2 + SILENCE * 3,
            [(0, 4240), (4240, 6000)],
            id="a sound goes on in the next window where speech pauses",
        ),
        pytest.param(
            "everything",
            VOICE * 4 + "." * 25 + "~" * 25 + SILENCE * 3,
            [(0, 4240), (4260, 5000)],
            id="a sound that begins in the pause opens the next window",
        ),
        pytest.param(
            "everything", SOUND * 5 + "," * 5 + SOUND * 2 + SILENCE * 3, [(0, 5050), (5050, 7100)], id="cut where quiet"
        ),
        pytest.param("everything", SILENCE + "~" + SILENCE * 3, [(760, 1020)], id="a click"),
    ],
)
def test_bounds(mode: Mode, scene: str, expected_ms: list[tuple[float, float]]) -> None:
    samples = sound(scene)
    events = cut(samples, mode, **SHORT)
    assert spans_ms(events, Window) == expected_ms
    assert_tiled(events, len(samples))
    assert_samples(events, samples)


def test_a_window_is_cut_in_the_latest_pause_of_its_last_third() -> None:
    scene = VOICE * 4 + "#" * 10 + "." * 35 + "#" * 15 + "." * 35 + "+" * 5 + VOICE + SILENCE * 3
    events = cut(sound(scene), window_max_s=6.9, window_min_s=7.0, gap_max_s=1.0)
    assert spans_ms(events, Utterance) == [(0, 4440), (4660, 5440), (5660, 7240)]
    # The pause from 5440 to 5660 ms, though the earlier one is as quiet; the first of its equally quiet places.
    assert spans_ms(events, Window) == [(0, 5490), (5490, 7240)]


def test_a_window_is_cut_inside_an_utterance_where_there_is_no_pause() -> None:
    scene = VOICE * 2 + SILENCE + VOICE * 3 + "+" * 5 + VOICE * 2 + SILENCE * 3
    events = cut(sound(scene), window_max_s=6.5, window_min_s=6.0, gap_max_s=1.0)
    assert spans_ms(events, Utterance) == [(0, 2240), (2760, 8340)]
    assert spans_ms(events, Window) == [(0, 6050), (6050, 8340)]


def test_utterance_and_window_that_begin_together_are_cut_together() -> None:
    events = cut(sound(VOICE * 20), window_max_s=6.0, window_min_s=4.0)
    assert spans_ms(events, Utterance) == spans_ms(events, Window)
    assert len(spans_ms(events, Window)) > 3


@pytest.mark.parametrize(("mode", "middle"), [("speech", "."), ("everything", "."), ("everything", "~")])
def test_silence_within_an_utterance_is_no_gap(mode: Mode, middle: str) -> None:
    scene = VOICE + "." * 40 + middle + "." * 40 + VOICE + SILENCE * 4
    events = cut(sound(scene), mode, **(SHORT | {"gap_max_s": 0.1}), pause_ms=2_000)
    assert spans_ms(events, Utterance) == [(0, 3860)]
    assert spans_ms(events, Window) == [(0, 3860)]


def test_a_pause_longer_than_a_window_may_last() -> None:
    events = cut(sound(VOICE + SILENCE * 9 + VOICE), window_max_s=6.0, window_min_s=4.0, gap_max_s=20.0)
    windows = spans_ms(events, Window)
    assert windows[0][0] == 0
    assert windows[-1][1] == 11_000
    assert all(end - start <= 6_000 for start, end in windows)
    assert_tiled(events, 11_000 * MS)


def test_silence_is_settled_as_it_passes() -> None:
    subject = segmenter()
    events = [event for second in range(10) for event in subject.push(sound(SILENCE))]
    assert all(isinstance(event, Skipped) for event in events)
    assert subject.position - events[-1].end <= (1_000 + 300 + 240 + 20) * MS


def test_a_flush_settles_everything_and_goes_on() -> None:
    samples = sound(SILENCE + VOICE * 2 + SILENCE)
    subject = segmenter()
    events = subject.push(samples[:30_001]) + subject.flush()
    assert_tiled(events, 30_001)
    assert subject.open_window is None
    events += subject.push(samples[30_001:]) + subject.flush()
    assert_tiled(events, len(samples))
    assert_samples(events, samples)
    first, second = (event for event in events if isinstance(event, Window))
    assert first.end == second.start == 30_001


def test_what_a_flush_leaves_below_a_tenth_of_a_second_makes_no_window() -> None:
    subject = segmenter()
    subject.push(sound(VOICE))
    subject.flush()
    events = subject.push(sound("#" * 4)) + subject.flush()
    assert spans_ms(events, Utterance) == [(1000, 1080)]
    assert spans_ms(events, Window) == []
    assert spans_ms(events, Skipped) == [(1000, 1080)]


def test_a_tiny_window_reaches_into_the_silence_after_it() -> None:
    events = cut(sound(SILENCE + "#" + SILENCE), min_speech_ms=1, speech_pad_ms=0, gap_max_s=0.1)
    assert spans_ms(events, Window) == [(1000, 1100)]


def test_the_open_window_is_told_up_to_its_last_activity() -> None:
    subject = segmenter()
    subject.push(sound(VOICE + SILENCE * 2))
    span = subject.open_window
    assert span is not None
    assert (span.start, span.end) == (0, 1240 * MS)
    assert np.array_equal(subject.read(span.start, span.end), sound(VOICE + "." * 12))


@pytest.mark.parametrize(("mode", "level"), [("speech", 0.0), ("speech", 0.1), ("everything", 0.1)])
def test_an_hour_is_cut_in_bounded_memory(mode: Mode, level: float) -> None:
    subject = Segmenter(AudioConfig(), mode, 30.0)  # webrtcvad hears a voice in noise
    minute = (level * np.random.default_rng(3).standard_normal(60 * 16_000)).astype(np.float32).clip(-1, 1)
    settled = utterances = 0
    for _ in range(60):
        for event in subject.push(minute):
            utterances += isinstance(event, Utterance)
            if isinstance(event, Window | Skipped):
                assert event.start == settled
                settled = event.end
    assert subject.position == 3_600 * 16_000
    assert subject.position - settled <= 31 * 16_000
    assert utterances == (0 if level == 0 else pytest.approx(150, abs=30))
    assert subject._samples._data.nbytes < 5 << 20  # a minute of float32 is 3.8 MB
    assert len(subject._frames) <= 32 * SECOND
