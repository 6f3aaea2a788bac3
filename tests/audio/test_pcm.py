"""PCM from the wire: what is taken, what is refused, and what it becomes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.audio.pcm import AudioFormat, PcmDecoder, Samples
from af3stream.errors import BadAudio, BadFormat

RATES = [8_000, 8_001, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]


def decode(audio_format: AudioFormat, *parts: bytes) -> Samples:
    decoder = PcmDecoder(audio_format)
    return np.concatenate([*map(decoder.decode, parts), decoder.finish()])


def noise(frames: int, channels: int = 1) -> bytes:
    return np.random.default_rng(frames).integers(-9_000, 9_000, frames * channels).astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "opus"}, "format is opus, expected one of pcm_s16le, pcm_f32le, mulaw"),
        ({"rate": 0}, "rate is 0, expected an integer from 8000 to 48000 Hz"),
        ({"rate": -1}, "rate is -1,"),
        ({"rate": 7_999}, "rate is 7999,"),
        ({"rate": 48_001}, "rate is 48001,"),
        ({"rate": 10**9}, "rate is 1000000000,"),
        ({"rate": 16_000.0}, "rate is 16000.0,"),
        ({"rate": "16000"}, "rate is 16000, expected an integer"),
        ({"rate": True}, "rate is True,"),
        ({"channels": 0}, "channels is 0, expected 1 or 2"),
        ({"channels": 3}, "channels is 3,"),
        ({"channels": True}, "channels is True,"),
    ],
)
def test_a_format_that_is_not_taken(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadFormat, match=message):
        AudioFormat(**fields)


@pytest.mark.parametrize(
    ("encoding", "channels", "size"),
    [
        ("pcm_s16le", 1, 2),
        ("pcm_s16le", 2, 4),
        ("pcm_f32le", 1, 4),
        ("pcm_f32le", 2, 8),
        ("mulaw", 1, 1),
        ("mulaw", 2, 2),
    ],
)
def test_bytes_and_frames(encoding: Any, channels: int, size: int) -> None:
    audio_format = AudioFormat(encoding, 8_000, channels)
    assert audio_format.bytes_per_frame == size
    assert audio_format.frames(bytes(size * 3)) == 3
    assert audio_format.frames(bytes(size * 80_000)) == 80_000
    with pytest.raises(BadAudio, match="sample frames in one message, expected at most"):
        audio_format.frames(bytes(size * 80_001))
    for excess in range(1, size):
        with pytest.raises(BadAudio, match=f"expected a multiple of {size}"):
            audio_format.frames(bytes(size * 3 + excess))
    with pytest.raises(BadAudio, match="the audio is empty"):
        audio_format.frames(b"")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite_are_refused_and_leave_the_decoder_as_it_was(bad: float) -> None:
    decoder = PcmDecoder(AudioFormat("pcm_f32le", 16_000))
    with pytest.raises(BadAudio, match="expected finite floats"):
        decoder.decode(np.array([0.0, bad], "<f4").tobytes())
    assert decoder.decode(np.array([0.5], "<f4").tobytes()).tolist() == [0.5]


@pytest.mark.parametrize(
    ("audio_format", "pcm", "expected"),
    [
        (AudioFormat(), np.array([0, 16_384, -32_768, 32_767], "<i2"), [0.0, 0.5, -1.0, 32_767 / 32_768]),
        (AudioFormat(channels=2), np.array([16_384, 0, -8_192, 8_192], "<i2"), [0.25, 0.0]),
        (AudioFormat("pcm_f32le"), np.array([0.25, 7.0, -7.0], "<f4"), [0.25, 1.0, -1.0]),
        (AudioFormat("pcm_f32le", channels=2), np.array([3.0, 0.0], "<f4"), [0.5]),
        # ITU-T G.711, table 2: the largest, the smallest and the zero of either sign, on a 16-bit scale.
        (
            AudioFormat("mulaw"),
            np.array([0x80, 0x00, 0xFF, 0x7F, 0xFE, 0x7E, 0xF0, 0xEF], "u1"),
            [value / 32_768 for value in (32_124, -32_124, 0, 0, 8, -8, 120, 132)],
        ),
    ],
)
def test_every_encoding(audio_format: AudioFormat, pcm: Any, expected: list[float]) -> None:
    decoded = decode(audio_format, pcm.tobytes())
    assert decoded.dtype == np.float32
    assert decoded.tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(RATES), st.integers(1, 2), st.integers(1, 4_000), st.integers(1, 4_000))
def test_the_chunking_does_not_matter_and_the_length_is_known(
    rate: int, channels: int, frames: int, chunk: int
) -> None:
    audio_format = AudioFormat("pcm_s16le", rate, channels)
    pcm, size = noise(frames, channels), chunk * audio_format.bytes_per_frame
    whole = decode(audio_format, pcm)
    parts = decode(audio_format, *(pcm[at : at + size] for at in range(0, len(pcm), size)))
    assert np.array_equal(whole, parts)
    assert len(whole) == audio_format.samples(frames)


@pytest.mark.parametrize("rate", RATES)
def test_frame_by_frame_is_the_whole(rate: int) -> None:
    audio_format = AudioFormat("pcm_s16le", rate)
    pcm = noise(3_000)
    single = decode(audio_format, *(pcm[at : at + 2] for at in range(0, len(pcm), 2)))
    assert np.array_equal(single, decode(audio_format, pcm))


@pytest.mark.parametrize(("rate", "frames", "samples"), [(16_000, 5, 5), (32_000, 1, 1), (44_100, 1, 0), (8_000, 3, 6)])
def test_durations_round_half_up(rate: int, frames: int, samples: int) -> None:
    assert AudioFormat("pcm_s16le", rate).samples(frames) == samples


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_level_and_place(rate: int) -> None:
    time = np.arange(rate) / rate
    pcm = (0.5 * np.sin(2 * np.pi * 1_000 * time)).astype("<f4").tobytes()
    expected = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    decoded = decode(AudioFormat("pcm_f32le", rate), pcm)
    assert np.allclose(decoded[500:-500], expected[500:-500], atol=1e-3)


@pytest.mark.parametrize("rate", RATES)
def test_no_more_than_0_12_s_is_held_back(rate: int) -> None:
    audio_format = AudioFormat("pcm_s16le", rate)
    decoder = PcmDecoder(audio_format)
    ready = 0
    for frames in range(160, 8_000, 160):
        ready += len(decoder.decode(bytes(320)))
        assert audio_format.samples(frames) - ready <= 0.12 * 16_000


@pytest.mark.parametrize("rate", RATES)
def test_what_is_ready_is_a_function_of_the_frames_alone(rate: int) -> None:
    pcm, cuts = noise(31 * rate), np.random.default_rng(rate).integers(1, 31 * rate, 12)
    whole = decode(AudioFormat("pcm_s16le", rate), *(pcm[at : at + 2 * rate] for at in range(0, len(pcm), 2 * rate)))
    for frames in (*cuts, 30 * rate, 30 * rate + rate // 20):
        ready = []
        for block in (rate // 50, 7 * rate + 1):
            decoder = PcmDecoder(AudioFormat("pcm_s16le", rate))
            bounds = [*range(0, frames, block), frames]
            ready.append(np.concatenate([decoder.decode(pcm[2 * a : 2 * b]) for a, b in pairwise(bounds)]))
        assert np.array_equal(*ready)
        assert np.array_equal(ready[0], whole[: len(ready[0])])


@pytest.mark.parametrize("rate", RATES)
def test_a_decoder_may_begin_anywhere(rate: int) -> None:
    audio_format = AudioFormat("pcm_s16le", rate)
    pcm, second = noise(61 * rate + 5), 2 * rate
    whole = decode(audio_format, *(pcm[at : at + second] for at in range(0, len(pcm), second)))
    for position in (0, 5, 479_999, 480_000, 700_001, 960_000, 16_000 * 61 - 1):
        decoder = PcmDecoder(audio_format, position)
        begin = decoder.frame
        parts = [decoder.decode(pcm[at : at + second]) for at in range(2 * begin, len(pcm), second)]
        heard = np.concatenate([*parts, decoder.finish()])
        assert decoder.position <= position
        assert np.array_equal(heard, whole[decoder.position :])


@pytest.mark.parametrize("rate", RATES)
def test_stretches_join_without_a_trace(rate: int) -> None:
    pcm = np.frombuffer(noise(61 * rate), "<i2").astype(np.float32) / 32_768
    expected = soxr.resample(pcm, rate, 16_000, quality="HQ") if rate != 16_000 else pcm
    decoder = PcmDecoder(AudioFormat("pcm_f32le", rate))
    parts = [decoder.decode(pcm[at : at + rate].tobytes()) for at in range(0, len(pcm), rate)]
    assert np.allclose(np.concatenate([*parts, decoder.finish()]), expected, atol=1e-4)


@pytest.mark.parametrize("rate", RATES)
def test_a_gap_is_the_silence_it_lasted(rate: int) -> None:
    audio_format = AudioFormat("pcm_s16le", rate)
    decoder, frames = PcmDecoder(audio_format), 2 * rate + 77
    parts = [decoder.decode(noise(100)), *decoder.silence(frames), decoder.decode(noise(50)), decoder.finish()]
    pcm = noise(100) + bytes(2 * frames) + noise(50)
    assert np.array_equal(np.concatenate(parts), decode(audio_format, pcm))


def test_a_huge_gap_comes_in_small_blocks() -> None:
    blocks = PcmDecoder(AudioFormat()).silence(2**62)
    assert [len(next(blocks)) for _ in range(3)] == [16_000] * 3
    assert list(PcmDecoder(AudioFormat()).silence(0)) == []
