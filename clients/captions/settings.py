"""What is remembered from one run to the next."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

from PySide6.QtCore import QRect, QSettings

from clients.captions.sources import SourceKind

Appearance = Literal["system", "light", "dark"]

SIZES_PT: Final = range(10, 97)
LINES: Final = range(1, 13)
OPACITIES: Final = range(30, 101)  # per cent; with less, light words on a light desktop cannot be read


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a person chooses.

    Attributes:
        server: the service's address; empty: a server of one's own on this computer.
        source: where sound comes from; a file is never remembered, only that the microphone or the system was.
        device: of the microphone or the system; empty: the default one.
        family, size_pt, lines: of the captions; an empty family is the system's own.
        text, background: colours as ``#rrggbb``; empty: as the appearance has them.
        opacity: of the background, in per cent.
        click_through: whether the mouse goes through the captions to what is behind them.
        announce: whether finished captions are announced to a screen reader.
        place: where the captions are; null: at the bottom of the screen.
        folder: where captions were saved last.
        show_key, pause_key, ask_key, save_key: global shortcuts, as Qt spells them.
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
    place: QRect = field(default_factory=QRect)
    folder: str = ""
    show_key: str = "Ctrl+Alt+C"
    pause_key: str = "Ctrl+Alt+P"
    ask_key: str = "Ctrl+Alt+A"
    save_key: str = "Ctrl+Alt+S"


BOUNDS: Final = {"size_pt": SIZES_PT, "lines": LINES, "opacity": OPACITIES}
CHOICES: Final = {"appearance": get_args(Appearance), "source": ("microphone", "system")}


def load(file: QSettings) -> Settings:
    """What is remembered; what is missing, or makes no sense, is as it is by default."""
    usual = Settings()
    return Settings(**{part.name: _read(file, part.name, getattr(usual, part.name)) for part in fields(Settings)})


def save(settings: Settings, file: QSettings) -> None:
    """Remember."""
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
