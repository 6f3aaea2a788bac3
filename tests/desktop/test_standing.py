"""How things stand is told as it is."""

from __future__ import annotations

import pytest

from af3stream.protocol.messages import Caption, Degraded, Speech
from clients.captions.standing import Phase, Progress, Standing
from tests.client.scripted_server import READY


@pytest.fixture
def standing() -> Standing:
    standing = Standing()
    standing.hear(READY)
    standing.phase = "open"
    return standing


def at(standing: Standing, captured_s: float, unsent_s: float = 0.0, lost_s: float = 0.0) -> str:
    standing.progress = Progress(captured_s, unsent_s, lost_s)
    return standing.status.text


def caption(end: float, *, final: bool = False) -> Caption:
    return Caption(0, "words", 0.0, end, final)


def test_silence_is_never_behind(standing: Standing) -> None:
    assert at(standing, 300.0) == "Listening"


def test_speech_that_is_not_shown_is_behind(standing: Standing) -> None:
    standing.hear(Speech("started", 10.0))
    assert at(standing, 12.0) == "Listening"
    assert at(standing, 18.0) == "Catching up · 8 s behind"
    standing.hear(caption(17.0))
    assert at(standing, 18.0) == "Listening"


def test_a_microphone_that_gives_nothing_is_told(standing: Standing) -> None:
    standing.progress = Progress(9.0, 0.0, 0.0, muted=True)
    assert standing.status.text == "No sound: is the microphone muted?"
    standing.paused = True
    assert standing.status.text == "Paused"


def test_what_the_server_gives_up_is_told(standing: Standing) -> None:
    standing.hear(Degraded("interims_dropped", 7.0))
    standing.hear(Speech("started", 0.0))
    assert at(standing, 7.0) == "Very busy: only finished captions · 7 s behind"
    standing.hear(Degraded("none", 0.0))
    standing.hear(caption(7.0))
    assert at(standing, 7.0) == "Listening"


def test_a_server_that_was_busy_is_no_news_once_a_file_is_heard(standing: Standing) -> None:
    standing.hear(Degraded("interims_stretched", 1.0))
    assert standing.status.text == "Busy: words come less often"
    standing.phase = "finished"
    assert standing.status.text == "Heard to the end"


def test_a_lost_connection_tells_what_is_kept(standing: Standing) -> None:
    standing.phase = "reconnecting"
    assert at(standing, 60.0, unsent_s=12.2) == "Connection lost, reconnecting · 12 s kept"
    assert standing.status.mood == "bad"


def test_lost_sound_is_told_ever_after(standing: Standing) -> None:
    assert at(standing, 60.0, lost_s=3.0) == "Listening · 3 s of sound lost"


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
def test_every_phase_has_a_sentence(phase: Phase, reason: str, text: str) -> None:
    standing = Standing()
    standing.phase, standing.reason = phase, reason
    assert standing.status.text == text


def test_a_pause_and_a_source_that_fails(standing: Standing) -> None:
    standing.paused = True
    assert standing.status.text == "Paused"
    standing.trouble = "the microphone gives no sound any more"
    assert standing.status.text == "The microphone gives no sound any more."
    assert standing.status.mood == "bad"
