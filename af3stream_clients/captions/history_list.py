"""List of the transcript: its Qt model, its widget, and how a row is drawn."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QPointF, QRect, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPalette, QResizeEvent, QTextCharFormat, QTextLayout
from PySide6.QtWidgets import QAbstractItemView, QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from af3stream_clients.captions.formatting import clock
from af3stream_clients.captions.theme import colours
from af3stream_clients.captions.transcript import Line, Transcript

Index = QModelIndex | QPersistentModelIndex
LINE: Final = Qt.ItemDataRole.UserRole
TIME_PX: Final = 76
PADDING_PX: Final = 9
LINE_BREAK: Final = "\u2028"  # the only one that QTextLayout knows


class HistoryModel(QAbstractListModel):
    """Qt model of a transcript, one row for each utterance."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Line] = []

    def rowCount(self, parent: Index | None = None) -> int:  # noqa: N802
        return 0 if parent and parent.isValid() else len(self._lines)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        line = self._lines[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return f"{line.named_text}{LINE_BREAK}{line.translation}" if line.translation else line.named_text
            case Qt.ItemDataRole.AccessibleTextRole:
                return f"{clock(line.start)}. {line.named_text} {line.translation}".strip()
            case Qt.ItemDataRole.UserRole:
                return line
        return None

    def put(self, transcript: Transcript, line: Line) -> None:
        """Add, change or remove the row of an utterance."""
        at = transcript.index(line.utterance)
        known = at < len(self._lines) and self._lines[at].utterance == line.utterance
        if known and not line.text:
            self.beginRemoveRows(QModelIndex(), at, at)
            del self._lines[at]
            self.endRemoveRows()
        elif known:
            self._lines[at] = line
            self.dataChanged.emit(self.index(at), self.index(at))
        elif line.text:
            self.beginInsertRows(QModelIndex(), at, at)
            self._lines.insert(at, line)
            self.endInsertRows()

    def clear(self) -> None:
        """Remove all rows."""
        self.beginResetModel()
        self._lines = []
        self.endResetModel()


class HistoryList(QListView):
    """A list whose row heights follow the wrapped text."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("What was said")
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setWordWrap(True)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        bar = self.verticalScrollBar()
        following = bar.value() >= bar.maximum() - 4
        self.scheduleDelayedItemsLayout()
        super().resizeEvent(event)
        if following:
            self.scrollToBottom()


class HistoryDelegate(QStyledItemDelegate):
    """Draw a time and wrapped text: the speaker in colour, the translation on a line below.

    Matches of the search are highlighted; the translation, and words that may change, are faded.
    """

    def __init__(self, parent: QListView) -> None:
        super().__init__(parent)
        self.search_text = ""
        self._list = parent

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: N802
        width = self._list.viewport().width()
        height = self._laid_out(option, index, width).boundingRect().height()
        return QSize(width, round(height) + 2 * PADDING_PX)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        line: Line = index.data(LINE)
        look = colours()
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        area: QRect = option.rect
        painter.save()
        if selected:
            painter.fillRect(area, QColor(look.tint))
        if option.state & QStyle.StateFlag.State_HasFocus:
            painter.fillRect(QRect(area.left(), area.top() + 3, 3, area.height() - 6), QColor(look.accent))
        palette: QPalette = option.palette
        painter.setPen(QColor(look.soft))
        painter.setFont(option.font)
        time = area.adjusted(16, PADDING_PX, 0, 0)
        painter.drawText(time, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, clock(line.start))
        painter.setPen(palette.color(QPalette.ColorRole.Text))
        layout = self._laid_out(option, index, area.width())
        layout.draw(painter, QPointF(area.left() + TIME_PX, area.top() + PADDING_PX), self._formats(index.data(), line))
        painter.restore()

    def _laid_out(self, option: QStyleOptionViewItem, index: Index, width: int) -> QTextLayout:
        layout = QTextLayout(index.data(), option.font)
        layout.beginLayout()
        y = 0.0
        while (line := layout.createLine()).isValid():
            line.setLineWidth(max(80, width - TIME_PX - 16))
            line.setPosition(QPointF(0, y))
            y += line.height() * 1.15
        layout.endLayout()
        return layout

    def _formats(self, shown: str, line: Line) -> list[QTextLayout.FormatRange]:
        look = colours()
        formats = []
        named_chars = len(line.named_text) - len(line.text)
        if named_chars:
            formats.append(_range(0, named_chars, _coloured(look.accent)))
        stable_end = named_chars + line.stable_chars
        if stable_end < len(shown):
            formats.append(_range(stable_end, len(shown) - stable_end, _coloured(look.soft)))
        if self.search_text:
            found = _coloured(look.on_accent)
            found.setBackground(QColor(look.accent))
            text, search_text = shown.lower(), self.search_text.lower()
            at = text.find(search_text)
            while at >= 0:
                formats.append(_range(at, len(search_text), found))
                at = text.find(search_text, at + len(search_text))
        return formats


def _coloured(colour: str) -> QTextCharFormat:
    form = QTextCharFormat()
    form.setForeground(QColor(colour))
    return form


def _range(start: int, length: int, form: QTextCharFormat) -> QTextLayout.FormatRange:
    part = QTextLayout.FormatRange()
    part.start, part.length, part.format = start, length, form
    return part
