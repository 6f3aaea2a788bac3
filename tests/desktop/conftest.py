"""A screen of its own with a window manager on it, and what the windows are shown there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication, QStyleFactory

from clients.captions.app import Captions, Options
from tests.desktop.driving import until
from tests.desktop.stage import Stage

SCREEN = "1280x800x24"
RATE = 16_000
NAME = f"af3stream-captions-{os.getpid()}"  # of a socket; pytest's folders are too long for it


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """An X server and openbox, for these tests alone."""
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", SCREEN, "-nolisten", "tcp"],
        pass_fds=(writing,),
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as told:
        name = f":{told.readline().strip()}"
    environment = {**os.environ, "DISPLAY": name}
    manager = subprocess.Popen(["openbox", "--sm-disable"], env=environment, stderr=subprocess.DEVNULL)
    yield name
    for process in (manager, server):
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def application(display: str) -> Iterator[QApplication]:
    """Qt on that screen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISPLAY", display)
        patch.setenv("QT_QPA_PLATFORM", "xcb")
        patch.delenv("WAYLAND_DISPLAY", raising=False)
        patch.delenv("XDG_SESSION_TYPE", raising=False)
        application = QApplication(["captions"])
        application.setStyle(QStyleFactory.create("Fusion"))
        yield application
        application.shutdown()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A server that says what the test tells it to."""
    with Stage() as stage:
        yield stage


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Two minutes of something, to be heard at the pace of speech."""
    path = tmp_path / "sound.wav"
    noise = np.random.default_rng(0).normal(0, 300, 120 * RATE)
    soundfile.write(path, noise.astype(np.int16), RATE)
    return path


@pytest.fixture
def run(application: QApplication, stage: Stage, sound: Path, tmp_path: Path) -> Iterator[Callable[..., Captions]]:
    """``run(...)``: the program, on the stage; with the same settings file every time."""
    running: list[Captions] = []

    def start(keys: bool = False, **options: object) -> Captions:
        settings = QSettings(str(tmp_path / "captions.ini"), QSettings.Format.IniFormat)
        for name in () if keys else ("show_key", "pause_key", "ask_key", "save_key"):
            settings.setValue(name, "")
        usual = {"url": stage.url, "source": str(sound), "name": NAME}
        captions = Captions(application, settings, Options(**usual | options))
        running.append(captions)
        return captions

    yield start
    for captions in running:
        captions.close()


@pytest.fixture
def captions(run: Callable[..., Captions], stage: Stage) -> Captions:
    """The program, listening."""
    captions = run()
    until(lambda: captions.overlay.status.text() == "Listening")
    return captions
