"""Measure the windows at this process's scale, and print one line of JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication, QPushButton, QStyleFactory

from af3stream.protocol.messages import Caption
from af3stream_clients.captions.app import Captions
from af3stream_clients.captions.options import Options

SAID = "He was not an ill-disposed young man, unless to be rather cold-hearted is to be ill-disposed. " * 3


def main(folder: Path) -> None:
    application = QApplication([])
    application.setStyle(QStyleFactory.create("Fusion"))
    settings = QSettings(str(folder / "captions.ini"), QSettings.Format.IniFormat)
    captions = Captions(
        application, settings, Options(url="ws://127.0.0.1:9", source="mic", name=f"af3stream-captions-{os.getpid()}")
    )
    assert captions.conversation
    captions.conversation._on_message(Caption(0, SAID, 0, 4, final=True))
    windows = (captions.overlay, captions.history, captions.ask, captions.settings_window)
    for window in windows:
        window.show()
    for _ in range(20):
        application.processEvents()
    view, overlay = captions.overlay.view, captions.overlay
    buttons = [button for window in windows for button in window.findChildren(QPushButton) if button.isVisible()]
    image = overlay.grab().toImage()
    measured = {
        "ratio": view.devicePixelRatio(),
        "rows": view.rows,
        "shown": len(view.shown.splitlines()),
        "inside": QApplication.primaryScreen().geometry().contains(overlay.geometry()),
        "cut": [button.text() for button in buttons if button.width() < button.minimumSizeHint().width()],
        "pixels": [image.width(), image.height()],
        "size": [overlay.width(), overlay.height()],
    }
    captions.close()
    print(json.dumps(measured))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
