"""Fixtures: an X server with a window manager, a scripted service, and the program."""

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

from af3stream_clients.captions.app import Captions
from af3stream_clients.captions.options import Options
from tests.desktop.gui_driver import until
from tests.desktop.scripted_service import ScriptedService

SCREEN = "1280x800x24"
RATE = 16_000
NAME = f"af3stream-captions-{os.getpid()}"  # name of a socket; paths in pytest's folders are too long


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """Run an X server and openbox for these tests."""
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
    """Start Qt on that screen."""
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
def stage() -> Iterator[ScriptedService]:
    """A service that sends what the test tells it to."""
    with ScriptedService() as stage:
        yield stage


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Two minutes of noise, streamed in real time."""
    path = tmp_path / "sound.wav"
    noise = np.random.default_rng(0).normal(0, 300, 120 * RATE)
    soundfile.write(path, noise.astype(np.int16), RATE)
    return path


@pytest.fixture
def run(
    application: QApplication, stage: ScriptedService, sound: Path, tmp_path: Path
) -> Iterator[Callable[..., Captions]]:
    """``run(...)``: start the program on the scripted service, always with the same settings file."""
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
def captions(run: Callable[..., Captions], stage: ScriptedService) -> Captions:
    """The program, once it is listening."""
    captions = run()
    until(lambda: captions.overlay.status.text() == "Listening")
    return captions
