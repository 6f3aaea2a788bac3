"""Ask for files, and whether to save."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from PySide6.QtCore import QStandardPaths
from PySide6.QtWidgets import QFileDialog, QMessageBox, QWidget

from af3stream_clients.captions.transcript import SUFFIXES

AUDIO_FILES: Final = "Sound and video (*.wav *.flac *.ogg *.opus *.mp3 *.m4a *.mp4 *.mkv *.webm);;All files (*)"
CAPTION_FILES: Final = "WebVTT (*.vtt);;SubRip (*.srt);;Text with times (*.txt)"


def ask_path(parent: QWidget, folder: str, began: datetime) -> Path | None:
    """Ask where to save captions that began at a time; ``None`` if the user cancels.

    Args:
        folder: proposed folder; empty for the user's documents.
    """
    documents = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
    proposed = Path(folder or documents) / f"Captions {began:%Y-%m-%d %H.%M}.vtt"
    chosen, kind = QFileDialog.getSaveFileName(parent, "Save captions", str(proposed), CAPTION_FILES)
    if not chosen:
        return None
    path = Path(chosen)
    return path if path.suffix.lower() in SUFFIXES else path.with_name(path.name + kind[-5:-1])


def ask_audio_file(parent: QWidget, folder: str) -> str:
    """Ask for a file to listen to; empty if the user cancels."""
    return QFileDialog.getOpenFileName(parent, "Listen to a file", folder, AUDIO_FILES)[0]


def ask_whether_to_save(parent: QWidget) -> Literal["save", "discard", "cancel"]:
    """Ask about captions that are not saved."""
    buttons = QMessageBox.StandardButton
    answer = QMessageBox.question(
        parent,
        "Captions",
        "Save the captions of this session?",
        buttons.Save | buttons.Discard | buttons.Cancel,
        buttons.Save,
    )
    if answer == buttons.Save:
        return "save"
    return "discard" if answer == buttons.Discard else "cancel"
