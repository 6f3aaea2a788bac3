"""Memory that reading a window leaves free goes back to the system."""

from __future__ import annotations

import numpy as np
import pytest

from af3stream.engine import memory
from af3stream.engine.contract import Sound
from af3stream.engine.jobs import CaptionJob, EncodeJob, ExtendJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.server.load import resident_bytes

HELD, SIZE = 3_000, 100_000  # pieces small enough for the heap


@pytest.mark.skipif(memory._malloc_trim() is None, reason="no glibc")
def test_what_is_free_between_pieces_in_use_is_given_back() -> None:
    pieces = [bytearray(SIZE) for _ in range(HELD)]
    kept = pieces[::10]
    before = resident_bytes()
    del pieces
    memory.give_back()
    assert before - resident_bytes() > HELD * SIZE // 2
    assert all(len(piece) == SIZE for piece in kept)


def test_where_the_c_library_cannot_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_malloc_trim", lambda: None)
    memory.give_back()


def test_it_is_given_back_once_a_window_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(memory, "give_back", lambda: given.append("given"))
    worker, sound = Worker(ScriptedEngine()), Sound(np.zeros(16_000, np.float32), 25)

    def done(*jobs: object) -> None:
        for job in jobs:
            worker.submit("s", job, lambda *_: None)  # type: ignore[arg-type]
        worker.run_all()

    done(CaptionJob(0, sound.samples, None, final=True, max_tokens=9), EncodeJob(0, sound))
    assert not given
    done(ExtendJob((sound,), rebuild=False))
    assert given == ["given"]
