"""Light and dark colours, the style sheet, and icons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication, QWidget

from af3stream_clients.captions.session_status import Severity
from af3stream_clients.captions.settings import Appearance

Part = TypeVar("Part", bound=QWidget)


@dataclass(frozen=True, slots=True)
class Colours:
    """The colours of one appearance; each value is ``#rrggbb``."""

    page: str
    panel: str
    ink: str
    soft: str
    line: str
    accent: str
    on_accent: str
    tint: str
    warning: str
    problem: str
    caption: str
    behind_captions: str

    def severity(self, severity: Severity) -> str:
        """Return the colour of a severity."""
        return {"neutral": self.soft, "ok": self.accent, "warning": self.warning, "error": self.problem}[severity]


LIGHT: Final = Colours(
    page="#f7f6f3",
    panel="#ffffff",
    ink="#1f2423",
    soft="#5d6664",
    line="#e0ded7",
    accent="#0f766e",
    on_accent="#ffffff",
    tint="#e2efed",
    warning="#8a5a00",
    problem="#a63d2f",
    caption="#151918",
    behind_captions="#ffffff",
)
DARK: Final = Colours(
    page="#131716",
    panel="#1b2120",
    ink="#e9edeb",
    soft="#a3aeab",
    line="#2c3432",
    accent="#5cc8bb",
    on_accent="#08211e",
    tint="#1f3a37",
    warning="#e5b567",
    problem="#f0907f",
    caption="#f6f8f7",
    behind_captions="#0c0f0f",
)
FADED: Final = 0.62  # opacity of text that may still change
ICONS: Final = Path(__file__).parent / "icons"  # icons of the style sheet
APPEARANCE: Final = "appearance"  # name of a property of the application
SCHEMES: Final = {
    "system": Qt.ColorScheme.Unknown,
    "light": Qt.ColorScheme.Light,
    "dark": Qt.ColorScheme.Dark,
}

_PATHS: Final = {
    "pause": "M8.500 6v12M15.500 6v12",
    "play": "M8 5.500v13l10.500-6.500z",
    "ask": "M21 11.500a8.400 8.400 0 0 1-12.200 7.500L3.500 20.500 5 15.200A8.400 8.400 0 1 1 21 11.500z"
    "M10 9.600a2.400 2.400 0 1 1 3.300 2.200c-.7.300-.9.700-.9 1.200M12.400 15.600v.1",
    "history": "M4 6h16M4 12h16M4 18h10",
    "save": "M12 4v11M7.500 11l4.500 4.500L16.500 11M5 20h14",
    "settings": "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.500v5M9 14.500v5",
    "hide": "M6 6l12 12M18 6L6 18",
    "copy": "M9 9h11v11H9zM15 9V4H4v11h5",
    "menu": "M5 12h.1M12 12h.1M19 12h.1",
}
APP_ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="9" fill="#0f766e"/>'
    '<g fill="none" stroke="#fff" stroke-width="2.600" stroke-linecap="round"><path d="M7 13.500h11M7 20h7"/>'
    '<path d="M22 13.500h3M18.500 20h6.500" opacity=".55"/></g></svg>'
)


def icon(name: str, colour: str) -> QIcon:
    """Draw an icon in a colour."""
    return _drawn(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path d="{_PATHS[name]}" fill="none" '
        f'stroke="{colour}" stroke-width="1.800" stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )


def app_icon() -> QIcon:
    """Return the icon of the program."""
    return _drawn(APP_ICON)


def colours() -> Colours:
    """Return the colours of the current appearance."""
    application = QApplication.instance()
    chosen = SCHEMES[application.property(APPEARANCE) or "system"] if application else Qt.ColorScheme.Unknown
    scheme = QApplication.styleHints().colorScheme() if chosen == Qt.ColorScheme.Unknown else chosen
    return DARK if scheme == Qt.ColorScheme.Dark else LIGHT


def apply(application: QApplication, appearance: Appearance) -> None:
    """Apply an appearance with its palette and style sheet."""
    application.setProperty(APPEARANCE, appearance)
    QApplication.styleHints().setColorScheme(
        SCHEMES[appearance]
    )  # for parts that the system draws; not every system supports it
    restyle(application)


def restyle(application: QApplication) -> None:
    """Apply the current appearance again."""
    look = colours()
    palette = QPalette()
    roles = QPalette.ColorRole
    for role, colour in {
        roles.Window: look.page,
        roles.WindowText: look.ink,
        roles.Base: look.panel,
        roles.AlternateBase: look.page,
        roles.Text: look.ink,
        roles.PlaceholderText: look.soft,
        roles.Button: look.panel,
        roles.ButtonText: look.ink,
        roles.ToolTipBase: look.panel,
        roles.ToolTipText: look.ink,
        roles.Highlight: look.accent,
        roles.HighlightedText: look.on_accent,
        roles.Link: look.accent,
        roles.Accent: look.accent,
        roles.Mid: look.line,
    }.items():
        palette.setColor(role, QColor(colour))
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(look.soft))
    application.setPalette(palette)
    names = {name: getattr(look, name) for name in Colours.__slots__}
    application.setStyleSheet(_STYLE.format(icons=ICONS.as_posix(), **names))


def styled(part: Part, name: str) -> Part:
    """Set the name by which the style sheet selects a widget, and return the widget."""
    part.setObjectName(name)
    return part


def _drawn(svg: str) -> QIcon:
    renderer = QSvgRenderer(QByteArray(svg.encode()))
    drawn = QIcon()
    for size in (16, 24, 32, 48, 64, 128):
        pixmap = QPixmap(size, size)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        renderer.render(painter, QRectF(0, 0, size, size))
        painter.end()
        drawn.addPixmap(pixmap)
    return drawn


_STYLE: Final = """
QPushButton {{ padding: 6px 16px; border: 1px solid {line}; border-radius: 8px; background: {panel}; color: {ink}; }}
QPushButton:hover, QPushButton:focus {{ border-color: {accent}; }}
QPushButton:disabled {{ color: {soft}; }}
QPushButton[primary="true"] {{ background: {accent}; border-color: {accent}; color: {on_accent}; font-weight: 600; }}
QPushButton[primary="true"]:focus {{ border-color: {ink}; }}
QPushButton[primary="true"]:disabled {{ background: {line}; border-color: {line}; color: {soft}; }}
QToolButton {{ border: 1px solid transparent; border-radius: 7px; padding: 4px; background: transparent; }}
QToolButton:hover {{ background: {tint}; }}
QToolButton:focus {{ border-color: {accent}; }}
QToolButton::menu-indicator {{ image: none; }}
QLineEdit {{
    padding: 6px 10px; border: 1px solid {line}; border-radius: 8px; background: {panel}; color: {ink}; }}
QComboBox, QSpinBox {{
    padding: 5px 10px; border: 1px solid {line}; border-radius: 8px; background: {panel}; color: {ink}; }}
QSpinBox > QLineEdit, QComboBox > QLineEdit {{ border: none; padding: 0; background: transparent; }}
QLineEdit:focus, QComboBox:focus, QSpinBox:focus {{ border-color: {accent}; }}
QComboBox::drop-down {{ border: none; width: 26px; }}
QComboBox::down-arrow, QSpinBox::down-arrow {{ image: url({icons}/down.svg); width: 14px; height: 14px; }}
QSpinBox::up-arrow {{ image: url({icons}/up.svg); width: 14px; height: 14px; }}
QSpinBox::up-button, QSpinBox::down-button {{ border: none; width: 26px; }}
QComboBox QAbstractItemView {{
    border: 1px solid {line}; background: {panel}; color: {ink}; padding: 4px;
    selection-background-color: {tint}; selection-color: {ink}; }}
QCheckBox {{ spacing: 8px; }}
QCheckBox::indicator {{
    width: 16px; height: 16px; border: 1px solid {soft}; border-radius: 5px; background: {panel}; }}
QCheckBox::indicator:checked {{ image: url({icons}/check.svg); border-color: {accent}; }}
QCheckBox::indicator:focus {{ border: 2px solid {accent}; }}
QSlider {{ min-height: 22px; }}
QSlider::groove:horizontal {{ height: 4px; border-radius: 2px; background: {line}; }}
QSlider::sub-page:horizontal {{ border-radius: 2px; background: {accent}; }}
QSlider::handle:horizontal {{
    width: 14px; margin: -6px 0; border: 1px solid {accent}; border-radius: 8px; background: {panel}; }}
QSlider::handle:horizontal:focus {{ background: {accent}; }}
QTabWidget::pane {{ border: none; border-top: 1px solid {line}; top: -1px; }}
QTabBar {{ qproperty-drawBase: 0; }}
QTabBar::tab {{ padding: 8px 4px; margin-right: 20px; border-bottom: 2px solid transparent; color: {soft}; }}
QTabBar::tab:selected {{ border-bottom-color: {accent}; color: {ink}; }}
QTabBar::tab:focus {{ color: {accent}; }}
QMenu {{ padding: 6px; border: 1px solid {line}; background: {panel}; color: {ink}; }}
QMenu::item {{ padding: 6px 24px 6px 14px; border-radius: 6px; }}
QMenu::item:selected {{ background: {tint}; }}
QMenu::item:disabled {{ color: {soft}; }}
QMenu::separator {{ height: 1px; margin: 6px 8px; background: {line}; }}
QMenu::indicator {{ width: 16px; height: 16px; margin-left: 8px; }}
QMenu::indicator:checked {{ image: url({icons}/check.svg); }}
QScrollBar:vertical {{ width: 10px; margin: 2px; background: transparent; }}
QScrollBar::handle:vertical {{ min-height: 32px; border-radius: 3px; background: {line}; }}
QScrollBar::handle:vertical:hover {{ background: {soft}; }}
QScrollBar::add-line, QScrollBar::sub-line {{ height: 0; }}
QDialogButtonBox {{ dialogbuttonbox-buttons-have-icons: 0; }}
QListView, QScrollArea {{ border: 1px solid {line}; border-radius: 10px; background: {panel}; }}
QScrollArea {{ padding: 5px; }}
QScrollArea > QWidget > QWidget {{ background: {panel}; }}
QToolTip {{ padding: 4px 8px; border: 1px solid {line}; background: {panel}; color: {ink}; }}
#card, #reply {{ background: {panel}; }}
#replying {{ border-left: 3px solid {accent}; border-radius: 4px; background: {tint}; }}
#question {{ font-weight: 600; }}
#note, #count, #hint {{ color: {soft}; }}
#refused {{ color: {problem}; }}
"""
