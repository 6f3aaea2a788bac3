"""History, questions, settings, shortcuts and commands, used as a user would."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QListView, QMessageBox, QSlider, QWidget

from af3stream.protocol.messages import Answer, AnswerDelta, Ask, Cancel, Caption, Error
from af3stream_clients.captions import shortcuts
from af3stream_clients.captions.app import Captions
from af3stream_clients.captions.sources import Choice
from tests.desktop.conftest import NAME
from tests.desktop.gui_driver import heard_by_screen_reader, live, until, xdotool
from tests.desktop.scripted_service import ScriptedService

SAID = (
    "And Mr. John Dashwood had then leisure.",
    "He was not an ill-disposed young man.",
    "He might have been amiable.",
)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def told(captions: Captions, stage: ScriptedService) -> Captions:
    """The program, after captions of three sentences."""
    for number, text in enumerate(SAID):
        stage.say(Caption(number, text, 60.0 * number, 60.0 * number + 4, final=True, stable=text))
    until(lambda: captions.history.model.rowCount() == 3)
    captions.actions["history"].trigger()
    live(0.2)
    return captions


def listed(captions: Captions) -> list[str]:
    """Return the history as a screen reader gets it."""
    model = captions.history.list.model()
    return [model.index(row, 0).data(Qt.ItemDataRole.AccessibleTextRole) for row in range(model.rowCount())]


def test_history_shows_times_and_grows(told: Captions, stage: ScriptedService) -> None:
    assert listed(told)[:2] == [f"0:00. {SAID[0]}", f"1:00. {SAID[1]}"]
    reader = QAccessible.queryAccessibleInterface(told.history.list)
    assert reader.text(QAccessible.Text.Name) == "What was said"
    assert reader.child(1).text(QAccessible.Text.Name) == f"1:00. {SAID[1]}"
    stage.say(Caption(3, "and then", 3_700.0, 3_701.0, final=False, stable="and"))
    until(lambda: listed(told)[-1] == "1:01:40. and then")
    stage.say(Caption(3, "", 3_700.0, 3_701.0, final=True))
    until(lambda: len(listed(told)) == 3)


def test_search_filters_the_history(told: Captions) -> None:
    window = told.history
    QTest.keyClick(window, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(window.search, "ILL-DISP")
    assert listed(told) == [f"1:00. {SAID[1]}"]
    assert window.count.text() == "1 of 3"
    window.search.clear()
    assert len(listed(told)) == 3
    assert window.count.text() == "3 captions"


def test_selected_rows_are_copied_with_their_times(told: Captions) -> None:
    window = told.history
    window.list.setFocus()
    window.list.setCurrentIndex(window.list.model().index(1, 0))
    QTest.keyClick(window.list, Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClick(window.list, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == f"1:00  {SAID[1]}\n2:00  {SAID[2]}\n"


@pytest.mark.parametrize(("suffix", "begins"), [("vtt", "WEBVTT\n\n00:00:00.000 -->"), ("srt", "1\n00:00:00,000 -->")])
def test_captions_are_saved_to_the_chosen_file_and_again_to_the_same(
    told: Captions, stage: ScriptedService, suffix: str, begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"talk.{suffix}"
    asked: list[str] = []

    def choose(parent: QWidget, title: str, proposed: str, kinds: str) -> tuple[str, str]:
        asked.append(proposed)
        return str(path.with_suffix("")), f"Kind (*.{suffix})"

    monkeypatch.setattr("af3stream_clients.captions.dialogs.QFileDialog.getSaveFileName", choose)
    told.actions["save"].trigger()
    assert path.read_text().startswith(begins)
    assert told.overlay.status.text() == f"Saved as talk.{suffix}"
    assert Path(asked[0]).name.startswith("Captions 2")
    stage.say(Caption(3, "One more.", 200.0, 201.0, final=True))
    until(lambda: told.history.model.rowCount() == 4)
    told.actions["save"].trigger()
    assert "One more." in path.read_text()
    assert len(asked) == 1


def test_failed_save_is_reported(told: Captions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(QMessageBox, "warning", lambda *said: warned.append(said[-1]))
    told.save(tmp_path / "no" / "talk.vtt")
    assert "could not be saved" in warned[0]
    assert told.conversation
    assert not told.conversation.transcript.saved


@pytest.mark.parametrize(("answer", "forgotten"), [("Cancel", False), ("Discard", True)])
def test_changing_the_source_asks_about_unsaved_captions(
    told: Captions, stage: ScriptedService, sound: Path, answer: str, forgotten: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton[answer])
    told.listen(Choice("file", str(sound)))
    assert (told.history.model.rowCount() == 0) == forgotten
    assert (told.overlay.view.shown == "") == forgotten
    if forgotten:
        until(lambda: stage.connections == 2 and told.overlay.status.text() == "Listening")


def test_answer_arrives_in_pieces_and_earlier_answers_stay(told: Captions, stage: ScriptedService) -> None:
    window = told.ask
    told.actions["ask"].trigger()
    until(window.field.hasFocus)
    window.scope.setCurrentText("the last minute")
    QTest.keyClicks(window.field, "Who is this about?")
    QTest.keyClick(window.field, Qt.Key.Key_Return)
    until(lambda: stage.heard(Ask))
    (asked,) = stage.heard(Ask)
    assert isinstance(asked, Ask)
    assert asked.text == "Who is this about?"
    assert asked.scope
    assert asked.scope.last_s == 60
    card = window.cards[0]
    until(card.stop.isVisible)
    for piece, so_far in ((" John", "John"), (" Dashwood", "John Dashwood")):
        stage.say(AnswerDelta(asked.id, piece))
        until(lambda so_far=so_far: heard_by_screen_reader(card.answer)[1].strip() == so_far)
        assert card.question.text() == "Who is this about?"
    stage.say(Answer(asked.id, " John Dashwood.", start=0, end=64, windows=2, tokens=3, finish="stop"))
    until(lambda: card.answer.text() == "John Dashwood.")
    assert card.note.text() == "Heard 0:00 to 1:04"
    until(lambda: not card.stop.isVisible())
    card.copy.click()
    assert QGuiApplication.clipboard().text() == "John Dashwood."

    QTest.keyClicks(window.field, "What else?")
    window.button.click()
    until(lambda: len(stage.heard(Ask)) == 2)
    second = stage.heard(Ask)[1]
    assert isinstance(second, Ask)
    stage.say(Error("query_limit", "too many questions", fatal=False, retryable=True, ref=second.id))
    until(lambda: "too many questions" in window.cards[1].note.text())
    assert window.cards[1].y() < card.y()
    assert card.answer.text() == "John Dashwood."


def test_reply_follows_up_the_answer_above_it(told: Captions, stage: ScriptedService) -> None:
    window = told.ask
    told.actions["ask"].trigger()
    until(window.field.hasFocus)
    first = answered(told, stage, "Who is this about?", "John Dashwood.")
    answered(told, stage, "When was it?", "In winter.")
    cards = window.cards
    until(cards[0].reply.isVisible)

    cards[0].reply.click()
    until(window.replying.isVisible)
    until(window.field.hasFocus)
    assert window.replying.text.text() == "Replying to: Who is this about?"
    assert heard_by_screen_reader(window.field)[1] == "Replying to: Who is this about?"
    QTest.keyClick(window.field, Qt.Key.Key_Escape)  # cancels the reply and does not close the window
    until(lambda: not window.replying.isVisible())
    assert window.isVisible()

    QTest.keyClick(cards[0].reply, Qt.Key.Key_Space)
    reply = answered(told, stage, "And his wife?", "Less amiable.")
    assert reply.after == first.id
    until(lambda: cards[2].y() > 0)
    assert cards[2].parent() is cards[0]
    assert not window.replying.isVisible()

    QTest.keyClicks(window.field, "> ")  # to the newest answer
    until(window.replying.isVisible)
    assert answered(told, stage, "Why?", "He does not say.").after == reply.id
    assert cards[3].parent() is cards[2]


def test_reply_is_not_offered_for_a_server_without_follow_ups(told: Captions, stage: ScriptedService) -> None:
    told.actions["ask"].trigger()
    until(told.ask.field.hasFocus)
    answered(told, stage, "Who is this about?", "John Dashwood.", question="")
    assert not told.ask.cards[0].reply.isVisible()
    QTest.keyClicks(told.ask.field, ">")
    assert told.ask.field.text() == ">"
    QTest.keyClick(told.ask.field, Qt.Key.Key_Escape)
    until(lambda: not told.ask.isVisible())


def answered(captions: Captions, stage: ScriptedService, text: str, answer: str, **fields: str) -> Ask:
    """Type a question, answer it, and return the message that the service received."""
    before = len(stage.heard(Ask))
    QTest.keyClicks(captions.ask.field, text)
    QTest.keyClick(captions.ask.field, Qt.Key.Key_Return)
    until(lambda: len(stage.heard(Ask)) > before)
    asked = stage.heard(Ask)[before]
    assert isinstance(asked, Ask)
    assert asked.text == text
    said = {"question": text, **fields}
    stage.say(Answer(asked.id, answer, start=0, end=64, windows=2, tokens=3, finish="stop", **said))
    until(lambda: captions.ask.cards[before].answer.text() == answer)
    return asked


def test_stop_button_cancels_the_answer(told: Captions, stage: ScriptedService) -> None:
    told.actions["ask"].trigger()
    told.ask.asked.emit("Tell me everything", None, None)
    until(lambda: stage.heard(Ask))
    (asked,) = stage.heard(Ask)
    assert isinstance(asked, Ask)
    stage.say(AnswerDelta(asked.id, "First"))
    until(lambda: told.ask.cards[0].answer.text() == "First")
    told.ask.cards[0].stop.click()
    until(lambda: stage.heard(Cancel))
    stage.say(Answer(asked.id, "First", start=0, end=4, windows=0, tokens=1, finish="cancelled"))
    until(lambda: told.ask.cards[0].note.text() == "Heard 0:00 to 0:04, stopped")


def test_global_shortcuts_work_without_focus(run: Callable[..., Captions]) -> None:
    captions = run(keys=True)
    assert captions.shortcuts.problem == ""
    assert captions.actions["pause"].text() == "&Pause\tCtrl+Alt+P"
    listener = next(thread for thread in threading.enumerate() if type(thread).__module__.startswith("pynput"))
    other = QWidget()
    other.show()
    other.activateWindow()
    live(0.3)
    until(lambda: captions.overlay.status.text() == "Listening")
    xdotool("key", "ctrl+alt+c")
    until(lambda: not captions.overlay.isVisible())
    xdotool("key", "ctrl+alt+c")
    until(captions.overlay.isVisible)
    xdotool("key", "ctrl+alt+p")
    until(lambda: captions.overlay.status.text() == "Paused")
    xdotool("key", "ctrl+alt+a")
    until(captions.ask.isVisible)
    captions.settings_window.changed.emit(captions.settings)
    captions.settings_window.keys["pause_key"].setKeySequence("Ctrl+Shift+F9")
    assert captions.actions["pause"].text() == "&Pause\tCtrl+Shift+F9"
    xdotool("key", "ctrl+shift+F9")
    until(lambda: captions.overlay.status.text() == "Listening")
    other.close()
    captions.close()
    xdotool("key", "Shift_L")  # the listener's thread ends with the next key press
    listener.join(10)
    assert not listener.is_alive()


def test_missing_global_shortcuts_are_reported(captions: Captions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_SESSION_TYPE", "wayland")
    captions.settings_window.keys["show_key"].setKeySequence("Ctrl+Alt+C")
    captions.settings_window.show()
    assert captions.settings_window.problem.text().startswith(
        "Not working now: Wayland gives programs no global shortcuts"
    )
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_SESSION_TYPE")
    monkeypatch.delenv("DISPLAY")
    assert "no X server" in shortcuts.unavailable()


def test_second_command_line_sends_commands_to_the_running_program(captions: Captions) -> None:
    def told(*words: str) -> int:
        command = [sys.executable, "-m", "af3stream_clients.captions", "--name", NAME, *words]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        until(lambda: process.poll() is not None)
        return process.wait()

    assert told("--do", "pause") == 0
    until(lambda: captions.overlay.status.text() == "Paused")
    captions.history.hide()
    assert told() == 0  # a second start shows the window
    until(captions.history.isVisible)
    assert told("--name", f"{NAME}-of-nobody", "--do", "pause") == 1


def test_every_control_has_a_unique_accessible_name(told: Captions) -> None:
    told.actions["ask"].trigger()
    told.settings_window.show()
    live(0.1)
    nameless: list[QWidget] = []
    for window in (told.overlay, told.history, told.ask, told.settings_window):
        assert heard_by_screen_reader(window)[0]
        for kind in (QAbstractButton, QLineEdit, QComboBox, QListView, QSlider):
            parts = [part for part in window.findChildren(kind) if not part.objectName().startswith("qt_")]
            nameless += [part for part in parts if part.isVisible() and not heard_by_screen_reader(part)[0]]
        names = [heard_by_screen_reader(part)[0] for part in window.findChildren(QAbstractButton) if part.isVisible()]
        assert len(set(names)) == len(names)
        assert not any("\t" in name for name in names)
    assert nameless == []


def test_settings_apply_at_once_and_are_stored(captions: Captions, run: Callable[..., Captions]) -> None:
    window = captions.settings_window
    window.show()
    window.size_pt.setValue(36)
    window.lines.setValue(2)
    window.appearance.setCurrentText("dark")
    window.click_through.setChecked(True)
    live(0.1)
    assert captions.overlay.view.font().pointSize() == 36
    assert captions.overlay.view.rows == 2
    assert captions.actions["through"].isChecked()
    captions.close()
    again = run()
    assert (again.settings.size_pt, again.settings.lines, again.settings.appearance) == (36, 2, "dark")
    assert again.overlay.view.font().pointSize() == 36


def test_windows_fit_at_double_scale(display: str, tmp_path: Path) -> None:
    environment = {"DISPLAY": display, "QT_QPA_PLATFORM": "xcb", "QT_SCALE_FACTOR": "2", "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "tests.desktop.measure_windows", str(tmp_path)]
    measured = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT, env=environment).stdout)
    assert measured["ratio"] == 2
    assert measured["pixels"] == [2 * side for side in measured["size"]]
    assert measured["shown"] == measured["rows"] == 3
    assert measured["inside"]
    assert measured["cut"] == []


def test_quitting_asks_about_unsaved_captions(told: Captions, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(QMessageBox, "question", lambda *said: asked.append(said) or QMessageBox.StandardButton.Cancel)
    told.command_server.command_received.emit("quit")
    assert len(asked) == 1
    assert told.overlay.isVisible()
