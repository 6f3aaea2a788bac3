"""Which of Whisper's hypotheses is written, over scripted ones; `tests/e2e/test_silence.py` has the real model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from af3stream.engine.whisper import Heard, WhisperCaptioner

Written = Callable[[Heard, Sequence[Heard]], str]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """`written(greedy, found)`: what a final caption is, where a beam finds these."""

    def caption(greedy: Heard, found: Sequence[Heard]) -> str:
        captioner = WhisperCaptioner.__new__(WhisperCaptioner)
        captioner._beam = len(found)

        def write(_encoded: Any, _prompt: Any, _most: int, beam: int, **_options: Any) -> list[Heard]:
            return [greedy] if beam == 1 else [*found]

        monkeypatch.setattr(captioner, "_encoded", lambda samples, padded_s: None)
        monkeypatch.setattr(captioner, "_prompt", lambda encoded: [])
        monkeypatch.setattr(captioner, "_write", write)
        return captioner.caption(np.zeros(160_000, np.float32), None, final=True, max_tokens=99).text

    return caption


def test_greedy_words_stand_where_they_are_sure(written: Written) -> None:
    likelier = [Heard("Rain on a roof.", -0.1, 0.0, 5), Heard("Rain.", -0.1, 0.0, 2)]
    assert written(Heard("Rain on the roof.", -0.2, 0.0, 5), likelier) == "Rain on the roof."


def test_else_the_likeliest_as_a_whole_is_written_and_not_the_likeliest_a_token(written: Written) -> None:
    found = [Heard("Rain on, on the roof.", -0.4, 0.0, 8), Heard("Rain on the roof.", -0.45, 0.0, 5)]
    assert written(Heard("Train on the roof.", -0.5, 0.0, 5), found) == "Rain on the roof."


def test_a_hypothesis_that_ends_early_is_not_written(written: Written) -> None:
    found = [Heard("Rain on the roof.", -0.45, 0.0, 5), Heard("Rain.", -0.5, 0.0, 2)]
    assert written(Heard("Train on the roof.", -0.5, 0.0, 5), found) == "Rain on the roof."
    assert written(Heard("Train on the roof.", -0.5, 0.0, 5), found[1:] * 2) == "Train on the roof."
