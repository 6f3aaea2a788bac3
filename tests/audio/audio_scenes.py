"""Scenes to cut: one character a 20 ms frame, and a voice detector that hears what the scene says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from unittest.mock import patch

import numpy as np

from af3stream.audio.events import Event, Skipped, Utterance, Window
from af3stream.audio.pcm import Samples
from af3stream.audio.segmenter import Mode, Segmenter
from af3stream.config import AudioConfig

FRAME = 320
MS = 16  # samples a millisecond
LEVELS = {"#": 0.5, "+": 0.25, "~": 0.1, ",": 0.05, ".": 0.0}  # voice, soft voice, sound, soft sound, silence
SECOND = 50  # frames


class SceneVad:
    """In webrtcvad's place: whatever reaches 0.2 is voiced."""

    def __init__(self, level: int) -> None: ...

    def is_speech(self, pcm: bytes, rate: int) -> bool:
        return int(np.frombuffer(pcm, "<i2").max()) >= 0.2 * 32_768


@contextmanager
def scene_vad() -> Iterator[None]:
    with patch("webrtcvad.Vad", SceneVad):
        yield


def sound(scene: str) -> Samples:
    """The samples of a scene; no two of one frame's halves are alike in sign, none of its frames has an offset."""
    signs = np.where(np.arange(FRAME) % 2, -1.0, 1.0)
    return np.concatenate([np.zeros(0), *(LEVELS[level] * signs for level in scene)]).astype(np.float32)


def segmenter(mode: Mode = "speech", window_max_s: float = 30.0, **settings: float) -> Segmenter:
    with scene_vad():
        return Segmenter(AudioConfig(**settings), mode, window_max_s)  # type: ignore[arg-type]


def cut(samples: Samples, mode: Mode = "speech", window_max_s: float = 30.0, **settings: float) -> list[Event]:
    subject = segmenter(mode, window_max_s, **settings)
    return subject.push(samples) + subject.flush()


def spans_ms(events: list[Event], kind: type[Utterance | Window | Skipped]) -> list[tuple[float, float]]:
    return [(event.start / MS, event.end / MS) for event in events if isinstance(event, kind)]


def assert_tiled(events: list[Event], total: int) -> None:
    """Windows and what is skipped follow one another without a hole or an overlap, from 0 to ``total``."""
    pieces = [event for event in events if isinstance(event, Window | Skipped)]
    bounds = [0, *(piece.end for piece in pieces)]
    assert [piece.start for piece in pieces] == bounds[:-1]
    assert all(low < high for low, high in pairwise(bounds))
    assert bounds[-1] == total


def assert_samples(events: list[Event], samples: Samples) -> None:
    """Every utterance and window holds exactly the audio its bounds name, and they are counted from 0."""
    for kind in (Utterance, Window):
        pieces = [event for event in events if isinstance(event, kind)]
        assert [piece.index for piece in pieces] == list(range(len(pieces)))
        for piece in pieces:
            assert piece.samples.dtype == np.float32
            assert np.array_equal(piece.samples, samples[piece.start : piece.end])
