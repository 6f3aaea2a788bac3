"""What the bot knows of a meeting is on disk."""

from __future__ import annotations

from pathlib import Path

from af3stream_clients.meeting_bot.state import FinalCaption, State


def test_a_caption_is_corrected_and_one_without_words_goes(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    for at, text in enumerate(["The club hosting.", "Mm.", "It doubled."]):
        state.add_caption(FinalCaption(float(at), at + 0.9, text, ("Ada",)))
    state.correct_caption(0.0, 0.9, "The cloud hosting.")
    state.correct_caption(1.0, 1.9, "")
    assert [*state.captions()] == [
        FinalCaption(0.0, 0.9, "The cloud hosting.", ("Ada",)),
        FinalCaption(2.0, 2.9, "It doubled.", ("Ada",)),
    ]
    state.close()
