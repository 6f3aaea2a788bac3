"""Settings page for the language, the translation and the speakers."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QLocale, QSignalBlocker, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QLabel, QPushButton, QWidget

from af3stream.protocol.messages import Ready
from af3stream_clients.captions.forms import form
from af3stream_clients.captions.settings import AUTO, Settings, SpeechOptions
from af3stream_clients.captions.theme import styled

RENAMED: Final = {"jw": "jv"}  # Whisper's codes that ISO 639 has replaced
NEXT_SESSION: Final = "These take effect with the next session."
NO_SPEAKERS: Final = "This server does not tell speakers apart."


class SpeechPage(QWidget):
    """Page for what a session captions. It offers the languages that the server knows.

    Signals:
        chosen: name and new value of a setting.
        restart: when the user wants a new session with these settings.
    """

    chosen = Signal(str, object)
    restart = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.language = QComboBox()
        self.language.activated.connect(lambda _: self.chosen.emit("language", self.language.currentData()))
        self.translate = QCheckBox("Translate into English, below the captions")
        self.translate.toggled.connect(lambda on: self.chosen.emit("translate", on))
        self.speakers = QCheckBox("Say who speaks")
        self.speakers.toggled.connect(lambda on: self.chosen.emit("speakers", on))
        self.note = styled(QLabel(NEXT_SESSION, wordWrap=True), "hint")
        self.start = QPushButton("Start a new session")
        self.start.clicked.connect(self.restart)
        self._codes: set[str] = set()
        self._chosen = Settings().speech
        self._in_force = self._chosen
        form(
            ("&Language", self.language),
            ("", self.translate),
            ("", self.speakers),
            ("", self.note),
            ("", self.start),
            page=self,
        )

    def show_settings(self, settings: Settings) -> None:
        """Show the given settings."""
        blockers = [QSignalBlocker(part) for part in (self.translate, self.speakers)]
        self._fill(settings.language)
        self.translate.setChecked(settings.translate)
        self.speakers.setChecked(settings.speakers)
        del blockers
        self._chosen = settings.speech
        self._refresh()

    def show_session(self, in_force: SpeechOptions) -> None:
        """Show whether the settings are those of the session that begins."""
        self._in_force = in_force
        self.note.setText(NEXT_SESSION)
        self._refresh()

    def show_ready(self, ready: Ready) -> None:
        """Offer the server's languages, and say what the server cannot do."""
        self._codes = set(ready.languages)
        self._fill(self.language.currentData())
        without = self._in_force.speakers and not ready.speakers
        self.note.setText(f"{NO_SPEAKERS} {NEXT_SESSION}" if without else NEXT_SESSION)

    def _fill(self, chosen: str) -> None:
        """List the languages by name, the chosen one in any case."""
        self.language.clear()
        self.language.addItem("Detect the language", AUTO)
        for name, code in sorted((language_name(code), code) for code in self._codes | ({chosen} - {AUTO})):
            self.language.addItem(name, code)
        self.language.setCurrentIndex(self.language.findData(chosen))

    def _refresh(self) -> None:
        self.start.setEnabled(self._chosen != self._in_force)


def language_name(code: str) -> str:
    """Return the English name of a language, or the code if Qt does not know it."""
    language = QLocale.codeToLanguage(RENAMED.get(code, code))
    return code if language == QLocale.Language.AnyLanguage else QLocale.languageToString(language)
