"""The status line describes the state of the session."""

from __future__ import annotations

import pytest

from af3stream.protocol.messages import Caption, Degraded, Speech
from af3stream_clients.captions.session_status import Phase, Progress, StatusTracker
from tests.client.scripted_server import READY


@pytest.fixture
def tracker() -> StatusTracker:
    tracker = StatusTracker()
    tracker.receive(READY)
    tracker.phase = "open"
    return tracker


def at(tracker: StatusTracker, captured_s: float, unsent_s: float = 0.0, lost_s: float = 0.0) -> str:
    tracker.progress = Progress(captured_s, unsent_s, lost_s)
    return tracker.status.text


def caption(end: float, *, final: bool = False) -> Caption:
    return Caption(0, "words", 0.0, end, final)


def test_silence_causes_no_lag(tracker: StatusTracker) -> None:
    assert at(tracker, 300.0) == "Listening"


def test_speech_without_captions_is_lag(tracker: StatusTracker) -> None:
    tracker.receive(Speech("started", 10.0))
    assert at(tracker, 12.0) == "Listening"
    assert at(tracker, 18.0) == "Catching up · 8 s behind"
    tracker.receive(caption(17.0))
    assert at(tracker, 18.0) == "Listening"


def test_muted_microphone_is_reported(tracker: StatusTracker) -> None:
    tracker.progress = Progress(9.0, 0.0, 0.0, muted=True)
    assert tracker.status.text == "No sound: is the microphone muted?"
    tracker.paused = True
    assert tracker.status.text == "Paused"


def test_load_level_of_the_server_is_shown(tracker: StatusTracker) -> None:
    tracker.receive(Degraded("interims_dropped", 7.0))
    tracker.receive(Speech("started", 0.0))
    assert at(tracker, 7.0) == "Very busy: only finished captions · 7 s behind"
    tracker.receive(Degraded("none", 0.0))
    tracker.receive(caption(7.0))
    assert at(tracker, 7.0) == "Listening"


def test_load_level_is_hidden_after_the_end_of_a_file(tracker: StatusTracker) -> None:
    tracker.receive(Degraded("interims_stretched", 1.0))
    assert tracker.status.text == "Busy: words come less often"
    tracker.phase = "finished"
    assert tracker.status.text == "Heard to the end"


def test_lost_connection_shows_the_buffered_duration(tracker: StatusTracker) -> None:
    tracker.phase = "reconnecting"
    assert at(tracker, 60.0, unsent_s=12.2) == "Connection lost, reconnecting · 12 s kept"
    assert tracker.status.severity == "error"


def test_lost_audio_stays_in_the_status(tracker: StatusTracker) -> None:
    assert at(tracker, 60.0, lost_s=3.0) == "Listening · 3 s of sound lost"


@pytest.mark.parametrize(
    ("phase", "reason", "text"),
    [
        ("idle", "", "Not listening"),
        ("starting", "", "Starting the local server"),
        ("starting", "it fetches its model", "Starting the local server · it fetches its model"),
        ("connecting", "", "Connecting"),
        ("connecting", "cannot reach ws://host", "Cannot reach ws://host. Trying again"),
        ("finished", "", "Heard to the end"),
        ("over", "the server refused: it is full (busy)", "The server refused: it is full (busy)."),
    ],
)
def test_every_phase_has_a_text(phase: Phase, reason: str, text: str) -> None:
    tracker = StatusTracker()
    tracker.phase, tracker.reason = phase, reason
    assert tracker.status.text == text


def test_pause_and_source_failure_are_shown(tracker: StatusTracker) -> None:
    tracker.paused = True
    assert tracker.status.text == "Paused"
    tracker.source_problem = "the microphone gives no sound any more"
    assert tracker.status.text == "The microphone gives no sound any more."
    assert tracker.status.severity == "error"
