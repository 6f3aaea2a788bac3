"""A program that runs for hours calls Qt more often than there are references to None."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CALLS = """

import clients.captions
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


def test_a_hundred_thousand_calls_are_survived() -> None:
    command = [sys.executable, "-c", CALLS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "alive\n"
