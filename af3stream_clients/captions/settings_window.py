"""Window for the settings. A change takes effect at once, except for those of speech and of the server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from PySide6.QtCore import QRect, QSignalBlocker, Qt, Signal
from PySide6.QtGui import QColor, QFont, QIcon, QKeySequence, QPainter, QPixmap
from PySide6.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QComboBox,
    QDialog,
    QFontComboBox,
    QHBoxLayout,
    QKeySequenceEdit,
    QLabel,
    QLineEdit,
    QPushButton,
    QSlider,
    QSpinBox,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from af3stream_clients.captions.forms import beside, form
from af3stream_clients.captions.settings import LINES, OPACITIES, SIZES_PT, Settings
from af3stream_clients.captions.speech_page import SpeechPage
from af3stream_clients.captions.theme import colours, styled

APPEARANCES: Final = (("as the system has it", "system"), ("light", "light"), ("dark", "dark"))
KEYS: Final = (
    ("show_key", "Show or hide"),
    ("pause_key", "Pause or go on"),
    ("ask_key", "Ask"),
    ("save_key", "Save"),
)


class SettingsWindow(QDialog):
    """Dialog for all settings except the source.

    Signals:
        changed: the new ``Settings``.
        server_changed: the server's address and token, when the user applies them.
    """

    changed = Signal(object)
    server_changed = Signal(str, str)

    def __init__(self, settings: Settings) -> None:
        super().__init__(None)
        self.setWindowTitle("Settings")
        self._settings = settings
        self.family = QFontComboBox()
        for inner in self.family.findChildren(QLineEdit):
            inner.setAccessibleName("Font")
        self.family.currentFontChanged.connect(lambda font: self._choose(family=font.family()))
        self.size_pt = _number(SIZES_PT, " pt")
        self.size_pt.valueChanged.connect(lambda size: self._choose(size_pt=size))
        self.lines = _number(LINES, "")
        self.lines.valueChanged.connect(lambda lines: self._choose(lines=lines, place=QRect()))
        self.text = _ColourButton("Colour of the captions")
        self.text.chosen.connect(lambda colour: self._choose(text=colour))
        self.background = _ColourButton("Colour behind the captions")
        self.background.chosen.connect(lambda colour: self._choose(background=colour))
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(OPACITIES.start, OPACITIES.stop - 1)
        self.opacity.valueChanged.connect(lambda opacity: self._choose(opacity=opacity))
        self.percent = QLabel()
        self.appearance = QComboBox()
        for text, value in APPEARANCES:
            self.appearance.addItem(text, value)
        self.appearance.currentIndexChanged.connect(lambda _: self._choose(appearance=self.appearance.currentData()))
        self.click_through = QCheckBox("The mouse goes through the captions")
        self.click_through.toggled.connect(lambda on: self._choose(click_through=on))
        self.announce = QCheckBox("Announce finished captions to a screen reader")
        self.announce.toggled.connect(lambda on: self._choose(announce=on))
        self.keys = {name: QKeySequenceEdit(maximumSequenceLength=1) for name, _ in KEYS}
        for name, edit in self.keys.items():
            edit.setClearButtonEnabled(True)
            edit.keySequenceChanged.connect(lambda keys, name=name: self._choose(**{name: _portable(keys)}))
        self.speech = SpeechPage()
        self.speech.chosen.connect(lambda name, value: self._choose(**{name: value}))
        self.problem = styled(QLabel(wordWrap=True), "refused")
        self.server = QLineEdit(placeholderText="a server of its own, on this computer")
        self.token = QLineEdit(placeholderText="where the server asks for one")
        self.token.setEchoMode(QLineEdit.EchoMode.Password)
        self._lay_out()
        self.show_settings(settings)

    def show_settings(self, settings: Settings) -> None:
        """Show the given settings."""
        self._settings = settings
        edits = (
            self.family,
            self.size_pt,
            self.lines,
            self.opacity,
            self.appearance,
            self.click_through,
            self.announce,
        )
        blockers = [QSignalBlocker(part) for part in (*edits, *self.keys.values())]
        self.family.setCurrentFont(QFont(settings.family) if settings.family else self.font())
        self.size_pt.setValue(settings.size_pt)
        self.lines.setValue(settings.lines)
        self.text.show_colour(settings.text, colours().caption)
        self.background.show_colour(settings.background, colours().behind_captions)
        self.opacity.setValue(settings.opacity)
        self.percent.setText(f"{settings.opacity} %")
        self.appearance.setCurrentIndex(self.appearance.findData(settings.appearance))
        self.click_through.setChecked(settings.click_through)
        self.announce.setChecked(settings.announce)
        for name, edit in self.keys.items():
            edit.setKeySequence(QKeySequence(getattr(settings, name)))
        self.speech.show_settings(settings)
        if not self.server.isModified():
            self.server.setText(settings.server)
        del blockers

    def show_problem(self, problem: str) -> None:
        """Show why global shortcuts do not work; empty if they do."""
        self.problem.setText(f"Not working now: {problem}." if problem else "")
        self.problem.setVisible(bool(problem))

    def _choose(self, **choice: Any) -> None:
        self._settings = replace(self._settings, **choice)
        self.changed.emit(self._settings)

    def _use_server(self) -> None:
        self.server.setModified(False)
        self.server_changed.emit(self.server.text().strip(), self.token.text().strip())

    def _lay_out(self) -> None:
        self.tabs = tabs = QTabWidget()
        tabs.setDocumentMode(True)
        tabs.addTab(
            form(
                ("&Font", self.family),
                ("&Size", self.size_pt),
                ("&Lines", self.lines),
                ("&Text", self.text),
                ("&Background", self.background),
                ("&Opacity", beside(self.opacity, self.percent)),
                ("&Appearance", self.appearance),
                ("", self.click_through),
                ("", self.announce),
            ),
            "Captions",
        )
        tabs.addTab(self.speech, "Speech")
        hint = styled(QLabel("These work in every program, with a modifier key in each.", wordWrap=True), "hint")
        tabs.addTab(
            form(("", hint), *((label, self.keys[name]) for name, label in KEYS), ("", self.problem)), "Shortcuts"
        )
        use = QPushButton("Use this server")
        use.clicked.connect(self._use_server)
        note = styled(QLabel("The token is not kept: $AF3STREAM_TOKEN gives it at every start.", wordWrap=True), "hint")
        tabs.addTab(form(("&Address", self.server), ("&Token", self.token), ("", note), ("", use)), "Server")
        close = QPushButton("Close")
        close.clicked.connect(self.close)
        bottom = QHBoxLayout()
        bottom.addStretch(1)
        bottom.addWidget(close)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(16, 12, 16, 14)
        whole.addWidget(tabs)
        whole.addLayout(bottom)
        self.setMinimumWidth(460)


class _ColourButton(QWidget):
    """Buttons to choose a colour, and to reset it.

    Signals:
        chosen: ``#rrggbb``, or empty for the default of the appearance.
    """

    chosen = Signal(str)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self._colour = name, QColor()
        self._button, self._back = QPushButton(), QPushButton("Reset")
        self._button.clicked.connect(self._choose)
        self._back.setAccessibleName(f"{name}: back to the appearance's own")
        self._back.clicked.connect(lambda: self.chosen.emit(""))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._button, 1)
        row.addWidget(self._back)
        self.setFocusProxy(self._button)

    def show_colour(self, chosen: str, usual: str) -> None:
        """Show the chosen colour, or the default if it is empty."""
        self._colour = QColor(chosen or usual)
        swatch = QPixmap(16, 16)
        swatch.fill(QColor(colours().soft))
        painter = QPainter(swatch)
        painter.fillRect(swatch.rect().adjusted(1, 1, -1, -1), self._colour)
        painter.end()
        self._button.setIcon(QIcon(swatch))
        self._button.setText(chosen or "as the appearance has it")
        self._button.setAccessibleName(f"{self._name}: {self._button.text()}")
        self._back.setEnabled(bool(chosen))

    def _choose(self) -> None:
        if (colour := QColorDialog.getColor(self._colour, self, self._name)).isValid():
            self.chosen.emit(colour.name())


def _number(values: range, suffix: str) -> QSpinBox:
    box = QSpinBox()
    box.setRange(values.start, values.stop - 1)
    box.setSuffix(suffix)
    box.lineEdit().setTextMargins(8, 0, 0, 0)
    return box


def _portable(keys: QKeySequence) -> str:
    return keys.toString(QKeySequence.SequenceFormat.PortableText)
