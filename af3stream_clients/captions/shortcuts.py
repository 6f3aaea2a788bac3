"""Global keyboard shortcuts, on systems that allow them."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any, Final

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QKeySequence

ACTIONS: Final = ("show", "pause", "ask", "save")
MODIFIERS: Final = {"Ctrl": "<ctrl>", "Alt": "<alt>", "Shift": "<shift>", "Meta": "<cmd>"}
MAC_MODIFIERS: Final = {"Ctrl": "<cmd>", "Meta": "<ctrl>"}  # Qt's names on macOS
NAMED_KEYS: Final = {
    "Space": "<space>",
    "Return": "<enter>",
    "Esc": "<esc>",
    "Tab": "<tab>",
    "Left": "<left>",
    "Right": "<right>",
    "Up": "<up>",
    "Down": "<down>",
    "Home": "<home>",
    "End": "<end>",
    "PgUp": "<page_up>",
    "PgDown": "<page_down>",
    **{f"F{number}": f"<f{number}>" for number in range(1, 21)},
}


class Shortcuts(QObject):
    """Global shortcuts.

    Attributes:
        problem: why they do not work; empty if they do.

    Signals:
        pressed: the action whose shortcut was pressed.
    """

    pressed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.problem = ""
        self._listener: Any = None
        self._hotkeys: list[Any] = []

    def set_keys(self, keys: dict[str, str]) -> None:
        """Set the shortcut of each action, in Qt's notation; an empty string means none."""
        self._hotkeys = []
        wanted = {action: key for action, key in keys.items() if key}
        self.problem = (unavailable() or self._listen(wanted)) if wanted else ""

    def stop(self) -> None:
        """Stop. On X the listener's thread may run until the next key press."""
        self._hotkeys = []
        if self._listener:
            self._listener.stop()

    def _listen(self, wanted: dict[str, str]) -> str:
        try:
            from pynput.keyboard import HotKey, Listener

            for action, key in wanted.items():
                if not (keys := to_pynput(key)):
                    return f"{key} cannot be heard in every program; choose another shortcut"
                self._hotkeys.append(HotKey(HotKey.parse(keys), partial(self.pressed.emit, action)))
            if not self._listener:  # one for the life of the program: see `stop`
                self._listener = Listener(on_press=self._on_press, on_release=self._on_release)
                self._listener.start()
                self._listener.wait()
        except ImportError:
            return "global shortcuts need the package pynput: pip install 'af3stream[desktop]'"
        except (OSError, ValueError, NotImplementedError) as error:
            return f"this system does not lend its keyboard to programs: {error}"
        if sys.platform == "darwin" and not getattr(self._listener, "IS_TRUSTED", True):
            return "allow this program under Privacy & Security, Accessibility, then start it again"
        return ""

    def _on_press(self, key: Any) -> None:  # on the listener's thread; Qt carries the signal over
        for hotkey in self._hotkeys:
            hotkey.press(self._listener.canonical(key))

    def _on_release(self, key: Any) -> None:
        for hotkey in self._hotkeys:
            hotkey.release(self._listener.canonical(key))


def unavailable() -> str:
    """Return why global shortcuts are impossible on this system; empty if they are possible."""
    if sys.platform.startswith("linux"):
        if os.environ.get("XDG_SESSION_TYPE") == "wayland" or os.environ.get("WAYLAND_DISPLAY"):
            return "Wayland gives programs no global shortcuts: bind the commands below in the system's settings"
        if not os.environ.get("DISPLAY"):
            return "there is no X server to hear the keyboard from"
    return ""


def to_pynput(key: str) -> str:
    """Convert ``Ctrl+Alt+C`` to pynput's ``<ctrl>+<alt>+c``; return an empty string if pynput cannot detect it."""
    text = QKeySequence(key).toString(QKeySequence.SequenceFormat.PortableText).partition(", ")[0]
    modifiers = MODIFIERS | (MAC_MODIFIERS if sys.platform == "darwin" else {})
    *held, last = text.removesuffix("+").split("+") if text.endswith("++") else text.split("+")
    last = "+" if text.endswith("++") else last
    if not held or not all(name in modifiers for name in held):
        return ""
    letter = NAMED_KEYS.get(last) or (last.lower() if len(last) == 1 else "")
    return "+".join([*(modifiers[name] for name in held), letter]) if letter else ""
