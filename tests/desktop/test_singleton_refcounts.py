"""Qt calls do not use up the references to None on Python 3.11."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CALLS = """

import af3stream_clients.captions
from PySide6.QtCore import QObject, Signal
class Speaker(QObject):
    said = Signal(int)
    def hear(self, number): pass
speaker = Speaker()
speaker.said.connect(speaker.hear)
for number in range(50_000):
    speaker.said.emit(number)
    speaker.setObjectName("x")
print("alive")
"""


def test_many_qt_calls_do_not_exhaust_references_to_none() -> None:
    command = [sys.executable, "-c", CALLS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "alive\n"
