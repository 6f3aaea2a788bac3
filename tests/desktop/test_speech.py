"""Languages, translations and speakers in the windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QInputDialog

from af3stream.protocol.messages import Caption, CaptionUpdate, Error, NameSpeaker, SpeakerNamed, SpeakerUpdate, Start
from af3stream_clients.captions.app import Captions
from af3stream_clients.captions.speech_page import language_name
from tests.desktop.gui_driver import live, until
from tests.desktop.scripted_service import ScriptedService


def said(utterance: int, text: str, speaker: int | None = None, translation: str = "") -> Caption:
    start = 10.0 * utterance
    return Caption(utterance, text, start, start + 4, True, stable=text, speaker=speaker, translation=translation)


def listed(captions: Captions) -> list[str]:
    """Return the history as a screen reader gets it."""
    model = captions.history.list.model()
    return [model.index(row, 0).data(Qt.ItemDataRole.AccessibleTextRole) for row in range(model.rowCount())]


def newest_start(stage: ScriptedService) -> Start:
    start = stage.heard(Start)[-1]
    assert isinstance(start, Start)
    return start


def test_session_starts_with_the_chosen_language_translation_and_speakers(
    run: Callable[..., Captions], stage: ScriptedService
) -> None:
    stage.ready = {"languages": ("es", "de", "jw"), "speakers": True}
    captions = run()
    until(lambda: captions.overlay.status.text() == "Listening")
    assert newest_start(stage) == Start(features=newest_start(stage).features)
    page = captions.settings_window.speech
    names = [page.language.itemText(row) for row in range(page.language.count())]
    assert names == ["Detect the language", "German", "Javanese", "Spanish"]
    assert not page.start.isEnabled()

    captions.settings_window.show()
    page.language.setCurrentText("Spanish")
    page.language.activated.emit(page.language.currentIndex())
    page.translate.setChecked(True)
    page.speakers.setChecked(True)
    live(0.1)
    assert stage.connections == 1  # the session goes on as it is
    page.start.click()
    until(lambda: stage.connections == 2 and captions.overlay.status.text() == "Listening")
    start = newest_start(stage)
    assert (start.language, start.task, start.speakers) == ("es", "translate", True)
    assert not page.start.isEnabled()
    captions.close()
    assert run().settings.language == "es"


def test_server_without_speakers_is_named_in_the_settings(
    run: Callable[..., Captions], stage: ScriptedService, tmp_path: Path
) -> None:
    (tmp_path / "captions.ini").write_text("[General]\nspeakers=true\n")
    captions = run()
    until(lambda: "does not tell speakers apart" in captions.settings_window.speech.note.text())


@pytest.mark.parametrize(("code", "name"), [("es", "Spanish"), ("yue", "Cantonese"), ("jw", "Javanese"), ("xx", "xx")])
def test_languages_are_named_by_qt(code: str, name: str) -> None:
    assert language_name(code) == name


def test_captions_name_each_turn_and_the_history_each_caption(captions: Captions, stage: ScriptedService) -> None:
    stage.say(said(0, "Good morning.", 1), said(1, "How are you?", 1), said(2, "Fine.", 2))
    until(lambda: captions.overlay.view.shown == "Speaker 1: Good morning.\nHow are you?\nSpeaker 2: Fine.")
    assert listed(captions) == [
        "0:00. Speaker 1: Good morning.",
        "0:10. Speaker 1: How are you?",
        "0:20. Speaker 2: Fine.",
    ]
    stage.say(SpeakerUpdate(1, 2), SpeakerNamed(2, "Anna"), CaptionUpdate(2, "Very well.", 20, 24))
    until(lambda: captions.overlay.view.shown == "Speaker 1: Good morning.\nAnna: How are you?\nVery well.")
    assert listed(captions)[2] == "0:20. Anna: Very well."


def test_translation_is_shown_below_the_words(captions: Captions, stage: ScriptedService) -> None:
    stage.say(said(0, "Buenos días.", translation="Good morning."), said(1, "¿Cómo estás?"))
    until(lambda: captions.overlay.view.shown == "Buenos días.\nGood morning.\n¿Cómo estás?")
    assert listed(captions)[0] == "0:00. Buenos días. Good morning."
    captions.history.search.setText("morning")
    assert len(listed(captions)) == 1
    stage.say(CaptionUpdate(0, "Buenas noches.", 0, 4, translation="Good night."))
    until(lambda: captions.overlay.view.shown == "Buenas noches.\nGood night.\n¿Cómo estás?")
    stage.say(CaptionUpdate(0, "", 0, 4))
    until(lambda: captions.overlay.view.shown == "¿Cómo estás?")


def test_speaker_is_named_from_the_history(
    captions: Captions, stage: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(parent: object, title: str, prompt: str, text: str) -> tuple[str, bool]:
        asked.append(text)
        return " Anna ", True

    monkeypatch.setattr(QInputDialog, "getText", answer)
    stage.say(said(0, "Mm."), said(1, "Good morning.", 1))
    until(lambda: captions.history.model.rowCount() == 2)
    captions.actions["history"].trigger()
    live(0.2)
    rows = captions.history.list
    rows.setFocus()
    rows.setCurrentIndex(rows.model().index(0, 0))
    assert not captions.history.name.isEnabled()
    rows.setCurrentIndex(rows.model().index(1, 0))
    QTest.keyClick(rows, Qt.Key.Key_F2)
    until(lambda: stage.heard(NameSpeaker) == [NameSpeaker(1, "Anna")])
    stage.say(SpeakerNamed(1, "Anna"))
    until(lambda: listed(captions)[1] == "0:10. Anna: Good morning.")
    captions.history.name.trigger()
    assert asked == ["", "Anna"]
    stage.say(Error("bad_text", "the name has control characters", fatal=False, retryable=False))
    until(lambda: captions.overlay.status.text() == "The name has control characters.")
