"""The alternative does what the servers it stands for do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from bench.growing import FULL_S, TRIM_S, Growing, lags_s

RATE = 16_000


@dataclass
class Spoken:
    word: str
    end: float


@dataclass
class Segment:
    words: list[Spoken]
    end: float


class Model:
    """Hears "w0 w1 …", a word a second of the stream; the last word only by its beginning."""

    def __init__(self, changing: bool = False) -> None:
        self.heard: list[float] = []
        self.first = 0
        self._changing = changing

    def transcribe(self, samples: np.ndarray, **_: object) -> tuple[Iterator[Segment], None]:
        seconds = len(samples) / RATE
        self.heard.append(seconds)
        again = f"-{len(self.heard)}" if self._changing else ""
        words = [Spoken(f"w{self.first + i}{again}", i + 1.0) for i in range(int(seconds))]
        return iter([Segment([word], word.end) for word in words]), None


def grow(model: Model, seconds: int) -> Growing:
    one = Growing(np.zeros(seconds * RATE, np.float32))
    for end in range(1, seconds + 1):
        model.first = round(one.start / RATE)
        one.transcribe(model, end * RATE, 0.0)
    return one


def test_words_are_committed_once_two_transcriptions_agree() -> None:
    one = grow(Model(), 4)
    assert [word for _, word in one.committed] == ["w0", "w1", "w2"]
    assert len(one.passes) == 4
    assert [end for end, _ in one.commits] == [1.0, 2.0, 3.0]


def test_a_long_buffer_is_cut_where_its_words_are_committed() -> None:
    model = Model()
    one = grow(model, 40)
    assert max(model.heard) <= TRIM_S + 1
    assert [word for _, word in one.committed] == [f"w{i}" for i in range(39)]


def test_a_buffer_whose_words_nobody_agrees_on_is_cut_all_the_same() -> None:
    model = Model(changing=True)
    one = grow(model, 40)
    assert one.committed == []
    assert max(model.heard) <= FULL_S + 1


def test_speech_is_heard_by_the_first_transcription_that_reaches_its_end() -> None:
    one = Growing(np.zeros(3 * RATE, np.float32), passes=[(1.0, 1.5), (2.5, 4.0), (3.0, 4.5)])
    assert lags_s(one, [0.8, 1.2, 3.0]) == pytest.approx([0.7, 2.8, 1.5])
