"""The session behind the windows: lost, resumed, paused and refused, and the status shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3stream.protocol.messages import Audio, Caption, Error, Flush, Speech, Start
from af3stream_clients.captions.app import Captions
from tests.desktop.gui_driver import live, until
from tests.desktop.scripted_service import ScriptedService


def test_lost_connection_is_shown_and_no_caption_repeats(run: Callable[..., Captions], stage: ScriptedService) -> None:
    stage.ready = {"resume": "r1"}
    captions = run()
    until(lambda: captions.overlay.status.text() == "Listening")
    first = Caption(0, "Before.", 0, 1, final=True, event=1)
    stage.say(first)
    until(lambda: captions.overlay.view.shown == "Before.")
    texts: list[str] = []
    assert captions.conversation
    captions.conversation.status.connect(lambda status: texts.append(status.text))
    stage.cut()
    until(lambda: any(text.startswith("Connection lost, reconnecting") for text in texts))
    until(lambda: stage.connections == 2 and captions.overlay.status.text() == "Listening")
    assert stage.heard(Start)[-1].resume == "r1"  # type: ignore[union-attr]
    stage.say(first, Caption(1, "After.", 2, 3, final=True, event=2))
    until(lambda: captions.overlay.view.shown == "Before.\nAfter.")
    assert captions.history.model.rowCount() == 2


def test_failed_resume_is_shown_and_captions_stay(captions: Captions, stage: ScriptedService) -> None:
    stage.say(Caption(0, "Before.", 0, 1, final=True))
    until(lambda: captions.overlay.view.shown == "Before.")
    stage.cut()
    until(lambda: captions.overlay.status.text() == "The connection to the server was lost.")
    assert captions.overlay.view.shown == "Before."


def test_refusal_is_shown_in_the_servers_words(captions: Captions, stage: ScriptedService) -> None:
    stage.say(Error("slow_consumer", "nobody reads", fatal=True, retryable=False))
    until(lambda: "nobody reads" in captions.overlay.status.text())


def test_unreachable_server_is_retried(run: Callable[..., Captions]) -> None:
    captions = run(url="ws://127.0.0.1:9")
    until(lambda: "Cannot reach ws://127.0.0.1:9" in captions.overlay.status.text())
    assert captions.overlay.status.text().endswith("Trying again")


def test_file_without_audio_is_reported(run: Callable[..., Captions], tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("no sound in here")
    captions = run(source=str(tmp_path / "notes.wav"))
    until(lambda: "is not an audio file" in captions.overlay.status.text())


def test_pause_stops_capturing_and_flushes(captions: Captions, stage: ScriptedService) -> None:
    captions.actions["pause"].trigger()
    until(lambda: stage.heard(Flush))
    assert captions.overlay.status.text() == "Paused"
    heard = len(stage.heard(Audio))
    live(0.5)
    assert len(stage.heard(Audio)) == heard
    captions.actions["pause"].trigger()
    until(lambda: len(stage.heard(Audio)) > heard)
    assert captions.overlay.status.text() == "Listening"


def test_speech_without_captions_is_shown_as_lag(
    captions: Captions, stage: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("af3stream_clients.captions.session_status.NORMAL_LAG_S", 1.0)
    stage.say(Speech("started", 0.0))
    until(lambda: captions.overlay.status.text() == "Catching up · 2 s behind")
    stage.say(Caption(0, "words", 0, 120, final=False))
    until(lambda: captions.overlay.status.text() == "Listening")


def test_file_is_streamed_to_its_end(run: Callable[..., Captions], stage: ScriptedService, tmp_path: Path) -> None:
    samples = np.arange(8_000, dtype=np.int16)
    soundfile.write(tmp_path / "short.wav", samples, 16_000)
    captions = run(source=str(tmp_path / "short.wav"))
    until(lambda: captions.overlay.status.text() == "Heard to the end")
    sent = b"".join(message.pcm for message in stage.heard(Audio) if isinstance(message, Audio))
    assert np.array_equal(np.frombuffer(sent, np.int16), samples)
    captions.conversation.ask("Still there?")  # type: ignore[union-attr]
    until(lambda: captions.ask.cards)
