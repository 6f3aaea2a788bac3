"""Widget with the newest caption rows; text that may still change is faded."""

from __future__ import annotations

import math
from typing import Final

from PySide6.QtCore import QEasingCurve, QRect, QSize, QVariantAnimation
from PySide6.QtGui import (
    QAccessible,
    QAccessibleAnnouncementEvent,
    QColor,
    QFont,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QStyle, QWidget

from af3stream_clients.captions.caption_layout import CaptionLayout, paint
from af3stream_clients.captions.theme import FADED
from af3stream_clients.captions.transcript import Line

SCROLL_MS: Final = 160
KEPT_ROWS: Final = 12  # kept above the visible rows


class CaptionsView(QWidget):
    """The last rows of a caption layout. Text starts at the top; once the widget is full, rows scroll up, never down.

    Attributes:
        announce: whether finished captions are announced to a screen reader.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.announce = False
        self._layout = CaptionLayout(self.font(), 1.0)
        self._colour, self._faded = QColor("white"), QColor("grey")
        self._top = 0.0  # the first visible row; a fraction while scrolling
        self._scroll = QVariantAnimation(self)
        self._scroll.setEasingCurve(QEasingCurve.Type.OutCubic)
        self._scroll.valueChanged.connect(self._scrolled)
        self.setAccessibleName("Captions")
        self._update_accessible_text()

    @property
    def caption_layout(self) -> CaptionLayout:
        """The layout of the captions."""
        return self._layout

    @property
    def rows(self) -> int:
        """Number of rows that fit."""
        return max(1, math.floor(self.height() / self._layout.row_height + 0.05))

    @property
    def shown(self) -> str:
        """The visible text, one line a row."""
        top = self._target
        return "\n".join(row.text.rstrip() for at, row, _ in self._layout.rows() if top <= at < top + self.rows)

    def height_for(self, rows: int) -> int:
        """Return the height of ``rows`` rows, in pixels."""
        return math.ceil(rows * self._layout.row_height)

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(600, self.height_for(3))

    def set_appearance(self, font: QFont, colour: QColor) -> None:
        """Set the font and the colour."""
        self._colour, self._faded = QColor(colour), QColor(colour)
        self._faded.setAlphaF(FADED)
        if font != self.font():
            self.setFont(font)
            self._reshape()
        self.update()

    def put(self, line: Line) -> None:
        """Show a new or changed utterance, after who speaks if a turn begins, and its translation below, faded."""
        turn = f"{line.name}: " if line.begins_turn and line.text else ""
        paragraphs = (f"{turn}{line.text}", len(turn) + line.stable_chars), (line.translation if line.text else "", 0)
        first = min(
            self._layout.put(2 * line.utterance + order, text, stable_chars, line.final)
            for order, (text, stable_chars) in enumerate(paragraphs)
        )
        self._scroll_to_end()
        y = math.floor((first - self._top) * self._layout.row_height)
        self.update(QRect(0, y, self.width(), self.height() - y))
        self._update_accessible_text()
        if line.final and self.announce and line.text:
            said = f"{turn}{line.text} {line.translation}".strip()
            QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, said))

    def clear(self) -> None:
        """Remove all captions."""
        self._layout = CaptionLayout(self.font(), self.width())
        self._scroll.stop()
        self._top = 0.0
        self._update_accessible_text()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setClipRect(event.rect())
        paint(self._layout, painter, self._top, self.rows, self._colour, self._faded)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        if event.size().width() != event.oldSize().width():
            self._reshape()
        else:
            self._jump()

    @property
    def _target(self) -> float:
        running = self._scroll.state() == QVariantAnimation.State.Running
        return float(self._scroll.endValue()) if running else self._top

    def _scroll_to_end(self) -> None:
        """Scroll until the last row is visible."""
        target = float(max(self._target, self._layout.height - self.rows))
        if target == self._target:
            return
        if not self.isVisible() or not self.style().styleHint(QStyle.StyleHint.SH_Widget_Animate):
            self._jump()
            return
        self._scroll.stop()
        self._scroll.setStartValue(self._top)
        self._scroll.setEndValue(target)
        self._scroll.setDuration(SCROLL_MS)
        self._scroll.start()

    def _scrolled(self, top: float) -> None:
        self._top = top
        if top == self._scroll.endValue():
            self._drop_hidden_rows()
        self.update()

    def _drop_hidden_rows(self) -> None:
        """Drop the rows that have scrolled out of view."""
        self._top -= self._layout.drop(math.floor(self._top) - KEPT_ROWS)

    def _reshape(self) -> None:
        self._layout.set_shape(self.font(), max(1, self.width()))
        self._jump()

    def _jump(self) -> None:
        self._scroll.stop()
        self._top = float(max(0, self._layout.height - self.rows))
        self._drop_hidden_rows()
        self._update_accessible_text()
        self.update()

    def _update_accessible_text(self) -> None:
        """Set the text for screen readers."""
        self.setAccessibleDescription(self.shown or "Nothing was said yet.")
