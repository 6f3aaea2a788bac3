"""Each range of a session's audio is sent to its engine once, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from af3stream.cluster.audio_window import Chunk, ReceivedAudio, SentAudio, packed
from af3stream.engine.captioning import Samples

TIMELINE: Samples = np.random.default_rng(1).standard_normal(1_000).astype(np.float32)
RANGES = st.tuples(st.integers(0, 999), st.integers(0, 200)).map(lambda at: (at[0], min(1_000, at[0] + at[1])))


@given(st.lists(st.lists(RANGES, max_size=3), max_size=20), st.integers(1, 400))
def test_every_job_has_its_samples_and_the_window_is_bounded(jobs: list[list[tuple[int, int]]], limit: int) -> None:
    sent, received = SentAudio(limit), ReceivedAudio(limit)
    for ranges in jobs:
        chunks = sent.chunks([(start, TIMELINE[start:end]) for start, end in ranges])
        for (start, end), samples in zip(ranges, received.take(chunks, ranges), strict=True):
            np.testing.assert_array_equal(samples, TIMELINE[start:end])
        assert received.kept < limit + 200  # and at most one piece that reaches over the bound


def test_what_was_sent_is_not_sent_again() -> None:
    sent = SentAudio(500)
    first = sent.chunks([(100, TIMELINE[100:200])])
    longer = sent.chunks([(100, TIMELINE[100:300])])
    around = sent.chunks([(50, TIMELINE[50:350])])
    spans = [[(chunk.start, len(chunk.samples)) for chunk in chunks] for chunks in (first, longer, around)]
    assert spans == [[(100, 100)], [(200, 100)], [(50, 50), (300, 50)]]
    assert sent.chunks([(60, TIMELINE[60:340])]) == ()


def test_audio_from_before_the_window_is_sent_again() -> None:
    sent, received = SentAudio(100), ReceivedAudio(100)
    for start in (0, 500, 0):
        ranges = [(start, start + 50)]
        chunks = sent.chunks([(start, TIMELINE[start : start + 50])])
        assert len(chunks) == 1
        np.testing.assert_array_equal(received.take(chunks, ranges)[0], TIMELINE[start : start + 50])


@given(arrays(np.float32, st.integers(0, 9), elements=st.floats(width=32, allow_nan=True)))
def test_samples_keep_their_bits(samples: Samples) -> None:
    assert packed(7, samples).samples.tobytes() == samples.tobytes()


@given(arrays(np.int16, st.integers(1, 99)))
def test_samples_of_16_bits_take_two_bytes(whole: np.ndarray) -> None:
    chunk = packed(0, whole.astype(np.float32) / 32_768)
    assert chunk.halved
    assert len(chunk.data) == 2 * len(whole)


def test_a_range_that_was_not_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="not sent"):
        ReceivedAudio(100).take([packed(0, TIMELINE[:10])], [(0, 11)])


def test_samples_that_come_twice_or_in_part_are_refused() -> None:
    received = ReceivedAudio(100)
    received.take([packed(0, TIMELINE[:10])], [])
    with pytest.raises(ValueError, match="twice"):
        received.take([packed(0, TIMELINE[:10])], [])
    with pytest.raises(ValueError, match="multiple"):
        received.take([Chunk(20, b"123", halved=True)], [])
