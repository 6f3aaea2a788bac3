"""The application: its windows, its session and its settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from PySide6.QtCore import QObject, QSettings, QTimer, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QApplication, QMessageBox, QSystemTrayIcon, QWidget

from af3stream.protocol.messages import Ready
from af3stream_clients.captions import dialogs, theme
from af3stream_clients.captions import settings as remembered
from af3stream_clients.captions.ask_window import AskWindow
from af3stream_clients.captions.conversation import Conversation
from af3stream_clients.captions.history_window import HistoryWindow
from af3stream_clients.captions.local_server import Address, LocalServer
from af3stream_clients.captions.menu import Menu
from af3stream_clients.captions.options import Options
from af3stream_clients.captions.overlay import Overlay
from af3stream_clients.captions.placement import open_beside
from af3stream_clients.captions.questions import Question
from af3stream_clients.captions.session_status import Status
from af3stream_clients.captions.session_worker import EventLoopThread
from af3stream_clients.captions.settings import Settings
from af3stream_clients.captions.settings_window import SettingsWindow
from af3stream_clients.captions.shortcuts import ACTIONS, Shortcuts
from af3stream_clients.captions.single_instance import CommandServer
from af3stream_clients.captions.sources import Choice
from af3stream_clients.captions.transcript import Line

NOTICE_MS: Final = 4_000
MANUAL: Final = Path(__file__).parents[2] / "docs" / "desktop.md"


class Captions(QObject):
    """The application.

    Attributes:
        conversation: the current session.
        settings: the user's settings.
    """

    def __init__(self, application: QApplication, file: QSettings, options: Options) -> None:
        super().__init__()
        self._application, self._file = application, file
        self.settings = remembered.load(file)
        self._url, self._token = options.url, options.token
        self._loop_thread = EventLoopThread()
        self._local = LocalServer(options.server_options)
        self.conversation: Conversation | None = None
        self._saved_as: Path | None = None
        self._closed = False
        self._notice_timer = QTimer(self, singleShot=True, interval=NOTICE_MS)  # how long a notice replaces the status
        self._notice_timer.timeout.connect(self._refresh_status)
        theme.apply(application, self.settings.appearance)
        application.setWindowIcon(theme.app_icon())
        application.setQuitOnLastWindowClosed(False)
        self.menu = menu = Menu(self, lambda: self.conversation.choice if self.conversation else None)
        self.actions = menu.named_actions
        self.overlay = Overlay(menu.buttons("pause", "ask", "history", "preferences", "show"), menu)
        self.history = HistoryWindow(menu.buttons("pause", "ask", "save"), menu)
        self.ask = AskWindow()
        self.settings_window = SettingsWindow(self.settings)
        self.tray = QSystemTrayIcon(theme.app_icon(), self)
        self.shortcuts = Shortcuts(self)
        self.command_server = CommandServer(options.name, self)
        self._connect()
        self.overlay.set_settings(self.settings)
        self.overlay.show()
        self._set_keys()
        if QSystemTrayIcon.isSystemTrayAvailable():
            self.tray.show()
        else:  # without a tray icon, this window has the menu
            self._open(self.history)
        self.listen(options.choice or Choice(self.settings.source, self.settings.device))

    def listen(self, choice: Choice) -> None:
        """Start a new session with a source, unless the user wants to keep the unsaved captions of the last one."""
        if self.conversation:
            if not self._may_discard():
                return
            self.conversation.leave()
        self._choose(replace(self.settings, source=choice.kind, device=choice.name))
        for window in (self.overlay.view, self.history, self.ask):
            window.clear()
        self._saved_as = None
        speech = self.settings.speech
        self.conversation = conversation = Conversation(self._loop_thread, self._find_address, choice, speech, self)
        conversation.line.connect(self._on_line)
        conversation.status.connect(self._on_status)
        conversation.question.connect(self._on_question)
        conversation.paused.connect(self._on_paused)
        conversation.opened.connect(self._on_opened)
        conversation.name_refused.connect(lambda reason: self._show_notice(Status("error", reason)))
        self.settings_window.speech.show_session(speech)
        self._on_paused(False)
        self._refresh_status()

    def do(self, command: str) -> None:
        """Trigger an action by its name, for a shortcut or a command."""
        self.actions[command].trigger()

    def save(self, path: Path | None = None) -> None:
        """Write the captions to ``path``, to the last saved file, or to a file that the user chooses."""
        if not self.conversation:
            return
        if not (
            path := path
            or self._saved_as
            or dialogs.ask_path(self.history, self.settings.folder, self.conversation.began)
        ):
            return
        try:
            self.conversation.transcript.save(path)
        except (OSError, ValueError) as error:
            QMessageBox.warning(self.history, "Captions", f"The captions could not be saved: {error}")
            return
        self._saved_as = path
        self._choose(replace(self.settings, folder=str(path.parent)))
        self._show_notice(Status("ok", f"Saved as {path.name}"))

    def quit(self) -> None:
        """Quit, unless the user wants to keep unsaved captions."""
        if self._may_discard():
            self.close()
            self._application.quit()

    def close(self) -> None:
        """Stop the session, the local server and all threads. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.shortcuts.stop()
        self.command_server.close()
        if self.conversation:
            self.conversation.leave()
        self._loop_thread.spawn(self._local.stop()).result()
        self._loop_thread.stop()
        self.tray.hide()
        for window in (self.overlay, self.history, self.ask, self.settings_window):
            window.close()

    def _find_address(self, on_start: Callable[[str], None]) -> Awaitable[Address]:
        url = self.settings.server if self._url is None else self._url
        return _given(Address(url, self._token)) if url else self._local.address(on_start)

    # event handlers

    def _on_line(self, line: Line) -> None:
        self.overlay.view.put(line)
        assert self.conversation
        self.history.put(self.conversation.transcript, line)

    def _on_status(self, status: Status) -> None:
        self.overlay.show_status(status)
        self.history.show_status(status)
        self.tray.setToolTip(f"Captions: {status.text}")

    def _on_question(self, question: Question) -> None:
        self.ask.put(question)

    def _on_save(self) -> None:
        self.save()

    def _on_asked(self, text: str, last_s: float | None, after: int | None) -> None:
        if self.conversation:
            self.conversation.ask(text, last_s, after)

    def _on_stopped(self, number: int) -> None:
        if self.conversation:
            self.conversation.stop_answer(number)

    def _on_paused(self, paused: bool) -> None:
        self.menu.show_paused(paused)

    def _on_opened(self, ready: Ready) -> None:
        self.settings_window.speech.show_ready(ready)

    def _on_speaker_named(self, speaker: int, name: str) -> None:
        if self.conversation:
            self.conversation.name_speaker(speaker, name)

    def _on_restart(self) -> None:
        if self.conversation:
            self.listen(self.conversation.choice)

    def _on_server(self, url: str, token: str) -> None:
        self._url, self._token = None, token or None
        self._choose(replace(self.settings, server=url))
        self.listen(Choice(self.settings.source, self.settings.device))

    def _choose(self, settings: Settings) -> None:
        """Apply and store new settings."""
        before, self.settings = self.settings, settings
        remembered.save(settings, self._file)
        if settings.appearance != before.appearance:
            theme.apply(self._application, settings.appearance)
            self.menu.draw()
            self._refresh_status()
        self.actions["through"].setChecked(settings.click_through)
        self.overlay.set_settings(settings)
        self.settings_window.show_settings(settings)
        if _keys(settings) != _keys(before):
            self._set_keys()

    def _on_scheme(self) -> None:
        theme.restyle(self._application)
        self.menu.draw()
        self.overlay.set_settings(self.settings)
        self.settings_window.show_settings(self.settings)
        self._refresh_status()

    def _show_notice(self, status: Status) -> None:
        """Show a status in place of the session's for a while."""
        self._on_status(status)
        self._notice_timer.start()

    def _refresh_status(self) -> None:
        """Show the current status again."""
        if self.conversation:
            self._on_status(self.conversation.status_tracker.status)

    def _set_keys(self) -> None:
        keys = _keys(self.settings)
        self.shortcuts.set_keys(keys)
        self.menu.show_keys({} if self.shortcuts.problem else keys)
        self.settings_window.show_problem(self.shortcuts.problem)

    def _may_discard(self) -> bool:
        """Ask about unsaved captions, and return whether they may be discarded."""
        if not self.conversation or self.conversation.transcript.saved:
            return True
        answer = dialogs.ask_whether_to_save(self.history)
        if answer == "save":
            self.save()
            return self.conversation.transcript.saved
        return answer == "discard"

    def _open_file(self) -> None:
        if path := dialogs.ask_audio_file(self.history, self.settings.folder):
            self.listen(Choice("file", path))

    # wiring

    def _connect(self) -> None:
        actions = self.actions
        actions["show"].toggled.connect(self.overlay.setVisible)
        actions["pause"].triggered.connect(lambda on: self.conversation.pause(on) if self.conversation else None)
        actions["ask"].triggered.connect(self._show_ask)
        actions["history"].triggered.connect(self._show_history)
        actions["save"].triggered.connect(self._on_save)
        actions["through"].triggered.connect(lambda on: self._choose(replace(self.settings, click_through=on)))
        actions["preferences"].triggered.connect(lambda: self._open(self.settings_window))
        actions["manual"].triggered.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(MANUAL))))
        actions["quit"].triggered.connect(self.quit)
        self.menu.chosen.connect(self.listen)
        self.menu.file_wanted.connect(self._open_file)
        self.overlay.placed.connect(lambda place: self._choose(replace(self.settings, place=place)))
        self.ask.asked.connect(self._on_asked)
        self.ask.stopped.connect(self._on_stopped)
        self.settings_window.changed.connect(self._choose)
        self.settings_window.server_changed.connect(self._on_server)
        self.settings_window.speech.restart.connect(self._on_restart)
        self.history.speaker_named.connect(self._on_speaker_named)
        self.shortcuts.pressed.connect(self.do)
        self.command_server.command_received.connect(self.do)
        self.tray.setContextMenu(self.menu)
        self.tray.activated.connect(self._on_tray)
        QApplication.styleHints().colorSchemeChanged.connect(lambda _: self._on_scheme())

    def _show_history(self) -> None:
        self._open(self.history)
        self.history.search.setFocus()

    def _show_ask(self) -> None:
        self._open(self.ask)
        self.ask.field.setFocus()

    def _open(self, window: QWidget) -> None:
        """Show a window beside the others, above all beside those that stay on top."""
        windows = (self.ask, self.history, self.settings_window)
        open_beside(window, [self.overlay, *(other for other in windows if other is not window and other.isVisible())])

    def _on_tray(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason == QSystemTrayIcon.ActivationReason.Trigger:
            self.actions["show"].toggle()


async def _given(address: Address) -> Address:
    return address


def _keys(settings: Settings) -> dict[str, str]:
    return {action: getattr(settings, f"{action}_key") for action in ACTIONS}
