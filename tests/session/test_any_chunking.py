"""However the same bytes are cut into messages, the same is heard."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.config import AudioConfig
from af3stream.protocol import messages as m
from tests.session.conversation import Conversation, pcm

SCENE = "." * 40 + "#" * 90 + "." * 40 + "#" * 60 + "." * 120 + "~" * 30 + "#" * 70
FRAMES = len(SCENE) * 320
AUDIO = np.repeat(np.frombuffer(pcm(SCENE), "<i2"), 2).astype("<i2")  # stereo, both sides alike


def hear(cuts: list[int]) -> tuple[list[m.Caption], list[m.Window], m.Ended]:
    """What a session makes of the scene, cut before these frames."""
    talk = Conversation(m.Start(channels=2), audio=AudioConfig(window_min_s=2.0))
    bounds = sorted({0, FRAMES, *cuts})
    for start, end in pairwise(bounds):
        talk.tell(m.Audio(start, AUDIO[2 * start : 2 * end].tobytes()))
        talk.now = end / 16_000
    talk.tell(m.End(FRAMES))
    return talk.finals, talk.of(m.Window), talk.of(m.Ended)[0]


WHOLE = hear(list(range(0, FRAMES, 100_000)))


def test_there_is_something_to_cut() -> None:
    captions, windows, _ = WHOLE
    assert len(captions) == 3 and len(windows) == 2


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, FRAMES - 1), min_size=1, max_size=60))
def test_any_chunking_gives_the_same_finals_windows_and_ledger(cuts: list[int]) -> None:
    assert hear(cuts) == WHOLE


def test_frame_by_frame_around_an_edge() -> None:
    assert hear(list(range(40 * 320 - 50, 40 * 320 + 50))) == WHOLE
