"""Settings that are stored between runs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

from PySide6.QtCore import QRect, QSettings

from af3stream.protocol.messages import Task
from af3stream_clients.captions.sources import SourceKind

Appearance = Literal["system", "light", "dark"]

SIZES_PT: Final = range(10, 97)
LINES: Final = range(1, 13)
OPACITIES: Final = range(30, 101)  # per cent; below this, light text on a light desktop is unreadable
AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """What a session captions; it does not change while the session lasts.

    Attributes:
        language: code of the language that is spoken; ``None`` for the server's choice, which is to detect it.
        task: ``translate`` for English below the captions.
        speakers: whether captions say who speaks.
    """

    language: str | None
    task: Task | None
    speakers: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the program.

    Attributes:
        server: the service's address; empty for a local server that the program starts.
        source: kind of audio source; only the microphone and the system are stored, never a file.
        device: name of the device; empty for the default one.
        family, size_pt, lines: font and number of lines of the captions; an empty family is the system's font.
        text, background: colours as ``#rrggbb``; empty for the defaults of the appearance.
        opacity: of the background, in per cent.
        click_through: whether mouse events go to the window behind the captions.
        announce: whether finished captions are announced to a screen reader.
        language: code of the language that is spoken, or ``auto``.
        translate: whether captions are translated into English.
        speakers: whether captions say who speaks.
        place: geometry of the overlay; null for the bottom of the screen.
        folder: folder of the last saved captions.
        show_key, pause_key, ask_key, save_key: global shortcuts, in Qt's notation.
    """

    server: str = ""
    source: SourceKind = "microphone"
    device: str = ""
    family: str = ""
    size_pt: int = 22
    lines: int = 3
    text: str = ""
    background: str = ""
    opacity: int = 88
    appearance: Appearance = "system"
    click_through: bool = False
    announce: bool = False
    language: str = AUTO
    translate: bool = False
    speakers: bool = False
    place: QRect = field(default_factory=QRect)
    folder: str = ""
    show_key: str = "Ctrl+Alt+C"
    pause_key: str = "Ctrl+Alt+P"
    ask_key: str = "Ctrl+Alt+A"
    save_key: str = "Ctrl+Alt+S"

    @property
    def speech(self) -> SpeechOptions:
        """The options of the next session."""
        language = None if self.language == AUTO else self.language
        return SpeechOptions(language, "translate" if self.translate else None, self.speakers)


BOUNDS: Final = {"size_pt": SIZES_PT, "lines": LINES, "opacity": OPACITIES}
CHOICES: Final = {"appearance": get_args(Appearance), "source": ("microphone", "system")}


def load(file: QSettings) -> Settings:
    """Read the settings; a missing or invalid value becomes the default."""
    usual = Settings()
    return Settings(**{part.name: _read(file, part.name, getattr(usual, part.name)) for part in fields(Settings)})


def save(settings: Settings, file: QSettings) -> None:
    """Store the settings. A file as the source is not stored."""
    for part in fields(Settings):
        if settings.source != "file" or part.name not in ("source", "device"):
            file.setValue(part.name, getattr(settings, part.name))
    file.sync()


def _read(file: QSettings, name: str, default: Any) -> Any:
    if not file.contains(name):
        return default
    value = file.value(name)
    if isinstance(default, bool):
        return value in (True, "true")
    if isinstance(default, int):
        try:
            return min(max(int(value), BOUNDS[name].start), BOUNDS[name].stop - 1)
        except (TypeError, ValueError):
            return default
    if name in CHOICES and value not in CHOICES[name]:
        return default
    return value if isinstance(value, type(default)) else default
