"""Passages end at pauses."""

from __future__ import annotations

import numpy as np
import pytest

from af3stream_clients.meeting_bot.passages import LONGEST_S, PAUSE_S, SHORTEST_S, find_passage_end
from tests.clients.meeting_bot.environment import RATE, voice


def samples(*parts: np.ndarray) -> np.ndarray:
    return (np.concatenate(parts) * 32_767).astype("<i2")


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def test_passage_ends_in_the_first_pause_after_its_shortest_length() -> None:
    known = samples(voice(10, 120), silence(2), voice(18, 120), silence(1), voice(5, 120), silence(1))
    assert find_passage_end(known) / RATE == pytest.approx(30 + PAUSE_S / 2, abs=0.1)


def test_short_dip_is_no_pause() -> None:
    assert find_passage_end(samples(voice(28, 120), silence(PAUSE_S / 2), voice(3, 120))) is None


def test_passage_below_its_shortest_length_continues() -> None:
    assert find_passage_end(samples(voice(5, 120), silence(SHORTEST_S - 6))) is None


def test_passage_without_a_pause_ends_at_its_longest_length() -> None:
    assert find_passage_end(samples(voice(LONGEST_S + 5, 120))) == LONGEST_S * RATE


def test_silence_is_a_pause() -> None:
    assert find_passage_end(samples(silence(SHORTEST_S + 5))) / RATE == pytest.approx(SHORTEST_S, abs=PAUSE_S)
