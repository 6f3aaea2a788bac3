"""Older audio of a session comes from its gateway: asked for once, never waited for longer than is allowed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from af3stream.cluster.remote_audio import MOST, RemoteAudio
from af3stream.engine.contract import AudioSegment
from af3stream.errors import DataLoss

SEGMENTS = [AudioSegment(i, i + 1, 1) for i in range(2 * MOST)]
SAMPLES = np.ones(1, np.float32)


class Asked(RemoteAudio):
    """Notes what it asks for."""

    def __init__(self, timeout_s: float = 0.05) -> None:
        self.asked: list[AudioSegment] = []
        super().__init__(self.asked.append, timeout_s, rereads=True)


def test_each_segment_is_asked_for_once() -> None:
    audio = Asked()
    assert [audio.fetch(SEGMENTS[:2]), audio.fetch(SEGMENTS[:3])] == [0, 0]
    assert audio.asked == SEGMENTS[:3]


def test_the_leading_segments_that_are_here_are_counted() -> None:
    audio = Asked()
    audio.fetch(SEGMENTS[:3])
    audio.arrive(SEGMENTS[1], SAMPLES)
    assert audio.fetch(SEGMENTS[:3]) == 0
    audio.arrive(SEGMENTS[0], SAMPLES)
    assert audio.fetch(SEGMENTS[:3]) == 2
    assert audio.read(SEGMENTS[0]) is SAMPLES


def test_what_is_gone_counts_as_here_and_cannot_be_read() -> None:
    audio = Asked()
    audio.fetch(SEGMENTS[:1])
    audio.arrive(SEGMENTS[0], None)
    assert audio.fetch(SEGMENTS[:1]) == 1
    with pytest.raises(DataLoss):
        audio.read(SEGMENTS[0])
    assert audio.fetch(SEGMENTS[:1]) == 0  # it is asked for again


def test_a_read_waits_for_a_segment_that_was_not_fetched() -> None:
    audio = Asked(timeout_s=5)
    threading.Timer(0.05, audio.arrive, [SEGMENTS[0], SAMPLES]).start()
    assert audio.read(SEGMENTS[0]) is SAMPLES


def test_a_read_waits_no_longer_than_allowed() -> None:
    with pytest.raises(DataLoss):
        Asked().read(SEGMENTS[0])


def test_what_arrives_late_or_twice_is_ignored() -> None:
    audio = Asked()
    audio.arrive(SEGMENTS[0], SAMPLES)
    audio.fetch(SEGMENTS[:1])
    audio.arrive(SEGMENTS[0], SAMPLES)
    audio.arrive(SEGMENTS[0], None)
    assert audio.read(SEGMENTS[0]) is SAMPLES


def test_no_more_segments_are_held_than_a_few() -> None:
    audio = Asked()
    for segment in SEGMENTS:
        audio.fetch([segment])
        audio.arrive(segment, SAMPLES)
    audio.asked.clear()
    assert audio.fetch(SEGMENTS[-MOST:]) == MOST
    assert audio.asked == []
    audio.forget(SEGMENTS[-MOST:])
    assert audio.fetch(SEGMENTS[-1:]) == 0
