"""Drive the windows as a user, and read them as a screen reader."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from PySide6.QtCore import QObject, QPoint
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QApplication, QWidget

PATIENCE_S = 60.0  # a loaded machine


def until(done: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Process events until a condition holds."""
    deadline = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < deadline, "it never came"
        QApplication.processEvents()
        time.sleep(0.005)


def live(seconds: float) -> None:
    """Process events for a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        QApplication.processEvents()
        time.sleep(0.005)


def xdotool(*words: object) -> str:
    """Run xdotool, which controls the mouse and keyboard of the X server."""
    done = subprocess.run(["xdotool", *map(str, words)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def move_to(part: QWidget, at: QPoint | None = None) -> None:
    """Put the mouse over a part of a window."""
    point = part.mapToGlobal(at or part.rect().center())
    xdotool("mousemove", point.x(), point.y())


def click(part: QWidget, at: QPoint | None = None) -> None:
    """Click on a part of a window."""
    move_to(part, at)
    live(0.1)
    xdotool("click", 1)


def heard_by_screen_reader(part: QObject) -> tuple[str, str]:
    """Return a widget's name and description in the accessibility tree."""
    found = QAccessible.queryAccessibleInterface(part)
    return found.text(QAccessible.Text.Name), found.text(QAccessible.Text.Description)
