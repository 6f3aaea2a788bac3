"""The actions of the program, and their menu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMenu

from af3stream_clients.captions import theme
from af3stream_clients.captions.sources import Choice, microphones

TEXTS: Final = {  # menu text, button text, button icon
    "show": ("&Show captions", "Hide the captions", "hide"),
    "pause": ("&Pause", "Pause", "pause"),
    "ask": ("&Ask…", "Ask about what was heard", "ask"),
    "history": ("&History", "History", "history"),
    "save": ("Sa&ve captions", "Save captions", "save"),
    "through": ("&Mouse goes through", "", ""),
    "preferences": ("S&ettings…", "Settings", "settings"),
    "manual": ("Hel&p", "", ""),
    "quit": ("&Quit", "", ""),
}


class Menu(QMenu):
    """The menu of the overlay, the tray icon and the history window.

    Signals:
        chosen: a ``Choice`` of another source.
        file_wanted: the user wants to choose a file as the source.

    Attributes:
        named_actions: the actions, by name.
    """

    chosen = Signal(object)
    file_wanted = Signal()

    def __init__(self, parent: QObject, current: Callable[[], Choice | None]) -> None:
        super().__init__("Menu")
        self._current = current
        self.named_actions = {name: _action(name, parent) for name in TEXTS}
        for name in ("show", "pause", "through"):
            self.named_actions[name].setCheckable(True)
        self.named_actions["show"].setChecked(True)
        self._add("show", "pause", "ask", "history", "save")
        self.addSeparator()
        self._sources = self.addMenu("&Listen to")
        self._sources.aboutToShow.connect(self._fill_sources)
        self._add("through", "preferences", "manual")
        self.addSeparator()
        self._add("quit")

    def buttons(self, *names: str) -> list[QAction]:
        """Return the actions with these names, for the buttons of a window."""
        return [self.named_actions[name] for name in names]

    def show_paused(self, paused: bool) -> None:
        """Show whether capturing is paused."""
        action = self.named_actions["pause"]
        action.setChecked(paused)
        _set_tooltip(action, "Go on listening" if paused else "Pause")
        action.setData("play" if paused else "pause")
        self.draw()

    def show_keys(self, keys: dict[str, str]) -> None:
        """Show the active shortcuts, by action, in Qt's notation."""
        for name, action in self.named_actions.items():
            native = QKeySequence(keys.get(name, "")).toString(QKeySequence.SequenceFormat.NativeText)
            action.setText("\t".join(filter(None, (TEXTS[name][0], native))))

    def draw(self) -> None:
        """Draw the icons in the colour of the appearance."""
        for action in self.named_actions.values():
            if action.data():
                action.setIcon(theme.icon(action.data(), theme.colours().ink))
        self.menuAction().setIcon(theme.icon("menu", theme.colours().ink))

    def _add(self, *names: str) -> None:
        self.addActions(self.buttons(*names))

    def _fill_sources(self) -> None:
        self._sources.clear()
        group = QActionGroup(self._sources)
        choices = [("Default microphone", Choice("microphone")), ("What the computer plays", Choice("system"))]
        for text, choice in choices + [(name, Choice("microphone", name)) for name in microphones()]:
            action = self._sources.addAction(text)
            action.setCheckable(True)
            action.setChecked(self._current() == choice)
            action.triggered.connect(lambda _, choice=choice: self.chosen.emit(choice))
            group.addAction(action)
        self._sources.addSeparator()
        self._sources.addAction("A file…").triggered.connect(lambda _: self.file_wanted.emit())


def _action(name: str, parent: QObject) -> QAction:
    text, tip, icon = TEXTS[name]
    action = QAction(text, parent, iconVisibleInMenu=False)  # an icon would hide the check mark
    _set_tooltip(action, tip)
    action.setData(icon)
    return action


def _set_tooltip(action: QAction, tip: str) -> None:
    """Set the tool tip and the accessible text of the action's buttons."""
    action.setToolTip(tip)
    action.setIconText(tip)
