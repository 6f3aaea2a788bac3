"""What the bot knows of a meeting is on disk."""

from __future__ import annotations

from pathlib import Path

from af3stream_clients.meeting_bot.state import FinalCaption, State


def test_a_caption_is_corrected_and_one_without_words_goes(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    for at, text in enumerate(["The club hosting.", "Mm.", "It doubled."]):
        state.add_caption(FinalCaption(float(at), at + 0.9, text, ("Ada",)), at)
    state.correct_caption(0, "The cloud hosting.")
    state.correct_caption(1, "")
    assert [*state.captions()] == [
        FinalCaption(0.0, 0.9, "The cloud hosting.", ("Ada",)),
        FinalCaption(2.0, 2.9, "It doubled.", ("Ada",)),
    ]
    state.close()


def test_speakers_of_an_utterance_change_only_within_its_session(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    state.add_caption(FinalCaption(0.0, 1.0, "Good morning."), 0)
    state.set_speakers(0, ("Speaker 2",))
    state.begin_session()
    state.set_speakers(0, ("Speaker 3",))
    assert state.caption(0) is None
    assert [*state.captions()] == [FinalCaption(0.0, 1.0, "Good morning.", ("Speaker 2",))]
    state.close()


def test_speaking_time_counts_turns_of_participants_and_captions_of_voices(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    state.add_turn("ada", 0, 32_000, 0)
    state.add_caption(FinalCaption(0.2, 1.8, "Hello.", ("ada",)), 0)
    state.add_caption(FinalCaption(3.0, 4.5, "Hi.", ("Speaker 1",)), 1)
    assert state.speaking_s(16_000) == {"ada": 2.0, "Speaker 1": 1.5}
    state.set_name("Speaker 1", "Ben")
    assert state.names() == {"Speaker 1": "Ben"}
    state.set_name("Speaker 1", "")
    assert state.names() == {}
    state.close()
