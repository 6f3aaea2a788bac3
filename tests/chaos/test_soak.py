"""Minutes, or hours, of a long day in simulated time: what is held is bounded, and nothing fails."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from af3stream.config import Config, JournalConfig
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine
from af3stream.journal.journal import Journal
from bench.soak import Listening, Soak, day

MINUTES, HOURS = 12, 480  # stretches of the day, speech and what is none in turns: six minutes, and four hours
HORIZON = 4


@pytest.mark.parametrize("stretches", [MINUTES, pytest.param(HOURS, marks=pytest.mark.long)])
def test_what_a_long_session_holds_is_bounded(tmp_path: Path, stretches: int) -> None:
    loaded = Loaded(ScriptedEngine(windows=HORIZON), "forgotten", None)
    journal = Journal(JournalConfig(folder=str(tmp_path / "journal")))
    journal.start()
    try:
        listening = Listening(loaded, Config(), journal, interims=True)
        soak = Soak(listening, HORIZON, tmp_path)
        for stretch in islice(day(1), stretches):
            soak.play(stretch, lambda: True)
        soak.finish()
        kept = sum(record.frames for record in journal.audio(listening.session.id))
    finally:
        journal.stop()
    figures = soak.figures
    assert figures.full_at is not None, "the horizon never rolled"
    assert sum(map(len, figures.questions.values())) == listening.now // 60 > 4
    assert figures.held["AudioSegment"] <= 3 * HORIZON  # kept, leaving while the horizon rolls, and not durable yet
    assert figures.held["Utterance"] <= 1
    assert kept == listening.position
