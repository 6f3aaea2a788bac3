"""The caption overlay: a frameless window on top, moved and resized by the mouse or transparent to it."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QEvent, QPoint, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAction,
    QColor,
    QContextMenuEvent,
    QEnterEvent,
    QFont,
    QFontDatabase,
    QGuiApplication,
    QMouseEvent,
    QMoveEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QApplication, QHBoxLayout, QLabel, QMenu, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from af3stream_clients.captions.captions_view import CaptionsView
from af3stream_clients.captions.session_status import Status
from af3stream_clients.captions.settings import Settings
from af3stream_clients.captions.theme import colours, icon

Edges = Qt.Edge

EDGE_PX: Final = 10  # within this distance of a side the mouse resizes the window
MARGINS: Final = (26, 8, 26, 16)
STRIP_PX: Final = 30
RADIUS_PX: Final = 16
EDGE_OPACITY: Final = 0.2
REMEMBER_MS: Final = 300
CURSORS: Final = {
    0: Qt.CursorShape.ArrowCursor,
    1: Qt.CursorShape.SizeVerCursor,
    2: Qt.CursorShape.SizeHorCursor,
    3: Qt.CursorShape.SizeFDiagCursor,
    6: Qt.CursorShape.SizeBDiagCursor,
    8: Qt.CursorShape.SizeVerCursor,
    4: Qt.CursorShape.SizeHorCursor,
    9: Qt.CursorShape.SizeBDiagCursor,
    12: Qt.CursorShape.SizeFDiagCursor,
}


class Overlay(QWidget):
    """Window with the captions, the status and the buttons.

    Signals:
        placed: the geometry, after the user moved or resized the window.
    """

    placed = Signal(QRect)

    def __init__(self, buttons: list[QAction], menu: QMenu) -> None:
        super().__init__(None, WINDOW_FLAGS)
        self.setAttribute(Qt.WidgetAttribute.WA_TranslucentBackground)
        self.setAttribute(Qt.WidgetAttribute.WA_ShowWithoutActivating)
        self.setMouseTracking(True)
        self.setWindowTitle("Captions")
        self._menu = menu
        self._settings = Settings()
        self._background = QColor("black")
        self._ink = "#ffffff"
        self._pressed: QPoint | None = None
        self.view = CaptionsView()
        self.status = QLabel()
        self.status.setAccessibleName("Status")
        self.status.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._dot = _Dot()
        self._buttons = {action: _button(action) for action in buttons}
        for action in buttons:
            action.changed.connect(self._draw_buttons)
        strip = QHBoxLayout()
        strip.setSpacing(8)
        strip.addWidget(self._dot)
        strip.addWidget(self.status, 1)
        for button in self._buttons.values():
            strip.addWidget(button)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(*MARGINS)
        whole.setSpacing(2)
        whole.addLayout(strip)
        whole.addWidget(self.view, 1)
        for part in (self.view, self.status, self._dot):
            part.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setMinimumSize(280, 80)
        self._remember = QTimer(self, singleShot=True, interval=REMEMBER_MS)
        self._remember.timeout.connect(lambda: self.placed.emit(self.geometry()))
        self._reveal(False)

    def set_settings(self, settings: Settings) -> None:
        """Apply the settings of appearance, place and mouse."""
        look = colours()
        font = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
        if settings.family:
            font = QFont(settings.family)
        font.setPointSize(settings.size_pt)
        font.setWeight(QFont.Weight.Medium)
        text = QColor(settings.text or look.caption)
        self._background = QColor(settings.background or look.behind_captions)
        self._background.setAlphaF(settings.opacity / 100)
        self.view.set_appearance(font, text)
        self.view.announce = settings.announce
        self.status.setStyleSheet(f"color: {text.name()}")
        self._ink = text.name()
        self._draw_buttons()
        self._through(settings.click_through)
        shape = ("lines", "size_pt", "family")
        if self._settings.place != settings.place or not self.isVisible():
            self._place(settings)
        elif any(getattr(settings, name) != getattr(self._settings, name) for name in shape):
            self._grow(settings.lines)
        self._settings = settings
        self.update()

    def show_status(self, status: Status) -> None:
        """Show the status line."""
        self.status.setText(status.text)
        self.status.setToolTip(status.text)
        self._dot.set_colour(colours().severity(status.severity))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Source)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._background)
        painter.drawRoundedRect(QRectF(self.rect()), RADIUS_PX, RADIUS_PX)
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceOver)
        edge = QColor(self._ink)  # keeps a white overlay visible on a white page
        edge.setAlphaF(EDGE_OPACITY)
        painter.setPen(edge)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), RADIUS_PX, RADIUS_PX)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self._pressed = event.position().toPoint() if event.button() == Qt.MouseButton.LeftButton else None

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self._pressed = None

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        at = event.position().toPoint()
        if self._pressed is None:
            self.setCursor(CURSORS.get(self._edges(at).value, Qt.CursorShape.ArrowCursor))
        elif (at - self._pressed).manhattanLength() >= QApplication.startDragDistance():
            self._drag(self._edges(self._pressed))
            self._pressed = None

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:  # noqa: N802
        self._menu.popup(event.globalPos())

    def enterEvent(self, event: QEnterEvent) -> None:  # noqa: N802
        self._reveal(True)

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802
        self._reveal(False)

    def moveEvent(self, event: QMoveEvent) -> None:  # noqa: N802
        self._moved()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        self._moved()

    def _moved(self) -> None:
        if self.isVisible():
            self._remember.start()

    def _reveal(self, on: bool) -> None:
        """Show or hide the buttons; hidden ones keep their space."""
        for button in self._buttons.values():
            button.setVisible(on)

    def _draw_buttons(self) -> None:
        """Draw the buttons in the colour of the captions."""
        for action, button in self._buttons.items():
            button.setIcon(icon(action.data(), self._ink))
            button.setToolTip(action.toolTip())
            button.setAccessibleName(action.toolTip())

    def _through(self, on: bool) -> None:
        """Set whether mouse events go to the window behind; this also works while the overlay is shown."""
        if window := self.windowHandle():
            window.setFlag(Qt.WindowType.WindowTransparentForInput, on)
        else:
            self.setWindowFlag(Qt.WindowType.WindowTransparentForInput, on)

    def _drag(self, edges: Edges) -> None:
        """Let the window manager move the window, or resize it if the mouse is on an edge."""
        if not (window := self.windowHandle()):
            return
        if edges:
            window.startSystemResize(edges)
        else:
            window.startSystemMove()

    def _edges(self, at: QPoint) -> Edges:
        inside = self.rect().adjusted(EDGE_PX, EDGE_PX, -EDGE_PX, -EDGE_PX)
        edges = Edges(0)
        if at.x() < inside.left():
            edges |= Edges.LeftEdge
        if at.x() > inside.right():
            edges |= Edges.RightEdge
        if at.y() < inside.top():
            edges |= Edges.TopEdge
        if at.y() > inside.bottom():
            edges |= Edges.BottomEdge
        return edges

    def _place(self, settings: Settings) -> None:
        """Restore the stored place if it is on a screen; otherwise use the bottom centre."""
        screens = QGuiApplication.screens()
        if any(screen.availableGeometry().intersects(settings.place) for screen in screens):
            self.setGeometry(settings.place)
            return
        area = QGuiApplication.primaryScreen().availableGeometry()
        size = QSize(min(area.width() - 48, 1080), self._height(settings.lines))
        self.setGeometry(QRect(QPoint(area.center().x() - size.width() // 2, area.bottom() - size.height() - 48), size))

    def _grow(self, lines: int) -> None:
        """Resize for ``lines`` lines; the lower edge stays."""
        place = self.geometry()
        place.setTop(place.bottom() + 1 - self._height(lines))
        self.setGeometry(place)

    def _height(self, lines: int) -> int:
        return MARGINS[1] + STRIP_PX + 2 + self.view.height_for(lines) + MARGINS[3]


WINDOW_FLAGS: Final = (
    Qt.WindowType.Tool
    | Qt.WindowType.FramelessWindowHint
    | Qt.WindowType.WindowStaysOnTopHint
    | Qt.WindowType.WindowDoesNotAcceptFocus
    | Qt.WindowType.NoDropShadowWindowHint
)


class _Dot(QWidget):
    """A coloured dot that shows the severity of the status."""

    def __init__(self) -> None:
        super().__init__()
        self._colour = QColor("grey")
        self.setFixedSize(10, STRIP_PX)

    def set_colour(self, colour: str) -> None:
        self._colour = QColor(colour)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._colour)
        painter.drawEllipse(QRectF(1, self.height() / 2 - 4, 8, 8))


def _button(action: QAction) -> QToolButton:
    button = QToolButton()
    button.clicked.connect(action.trigger)
    button.setIconSize(QSize(16, 16))
    button.setFixedSize(28, STRIP_PX - 2)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    button.setStyleSheet("QToolButton:hover { background: rgba(128, 128, 128, 70); }")
    policy = button.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    button.setSizePolicy(policy)
    return button
