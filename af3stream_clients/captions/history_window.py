"""Window with the whole transcript: times, search, copy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QPersistentModelIndex,
    QPointF,
    QRect,
    QSize,
    QSortFilterProxyModel,
    Qt,
)
from PySide6.QtGui import (
    QAction,
    QCloseEvent,
    QColor,
    QGuiApplication,
    QKeySequence,
    QPainter,
    QPalette,
    QResizeEvent,
    QTextCharFormat,
    QTextLayout,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListView,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from af3stream_clients.captions.formatting import clock
from af3stream_clients.captions.session_status import Status
from af3stream_clients.captions.theme import colours, styled
from af3stream_clients.captions.transcript import Line, Transcript, plain

Index = QModelIndex | QPersistentModelIndex
LINE: Final = Qt.ItemDataRole.UserRole
TIME_PX: Final = 76
PADDING_PX: Final = 9


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
                return line.text
            case Qt.ItemDataRole.AccessibleTextRole:
                return f"{clock(line.start)}. {line.text}"
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


class HistoryWindow(QWidget):
    """Window with the transcript of this session."""

    def __init__(self, buttons: list[QAction], menu: QMenu) -> None:
        super().__init__(None, Qt.WindowType.Window)
        self.setWindowTitle("History")
        self.model = HistoryModel()
        self._found = QSortFilterProxyModel(self)
        self._found.setSourceModel(self.model)
        self._found.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search what was said")
        self.search.setAccessibleName("Search what was said")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._search)
        self.list = _List()
        self.list.setModel(self._found)
        self._delegate = _Delegate(self.list)
        self.list.setItemDelegate(self._delegate)
        font = self.list.font()
        font.setPointSizeF(font.pointSizeF() * 1.1)
        self.list.setFont(font)
        self.status = QLabel()
        self.status.setAccessibleName("Status")
        self.status.setWordWrap(True)
        self.count = styled(QLabel(), "count")
        self.count.setAccessibleName("Captions found")
        self._lay_out(buttons, menu)
        copy = QAction("&Copy", self, shortcut=QKeySequence(QKeySequence.StandardKey.Copy))
        copy.triggered.connect(self.copy)
        find = QAction("&Find", self, shortcut=QKeySequence(QKeySequence.StandardKey.Find))
        find.triggered.connect(self.search.setFocus)
        self.list.addActions([copy])
        self.addActions([find])
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        self.resize(680, 560)
        self._recount()

    def put(self, transcript: Transcript, line: Line) -> None:
        """Add, change or remove the row of an utterance."""
        bar = self.list.verticalScrollBar()
        following = bar.value() >= bar.maximum() - 4
        self.model.put(transcript, line)
        if following:
            self.list.scrollToBottom()
        self._recount()

    def clear(self) -> None:
        """Remove all rows."""
        self.model.clear()
        self._recount()

    def show_status(self, status: Status) -> None:
        """Show the status line."""
        self.status.setText(status.text)
        self.status.setStyleSheet(f"color: {colours().severity(status.severity)}")

    def copy(self) -> None:
        """Copy the selected rows, or all rows found, with their times."""
        chosen = self.list.selectionModel().selectedIndexes() or self._all()
        rows = sorted(chosen, key=lambda index: index.row())
        QGuiApplication.clipboard().setText(plain([index.data(LINE) for index in rows]))

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        self.search.clear()
        super().closeEvent(event)

    def _all(self) -> Iterable[QModelIndex]:
        return (self._found.index(row, 0) for row in range(self._found.rowCount()))

    def _search(self, text: str) -> None:
        self._delegate.search_text = text.strip()
        self._found.setFilterFixedString(text.strip())
        self.list.viewport().update()
        if not text:
            self.list.scrollToBottom()
        self._recount()

    def _recount(self) -> None:
        found, there = self._found.rowCount(), self.model.rowCount()
        self.count.setText(
            f"{found} of {there}" if self.search.text().strip() else f"{there} captions" if there != 1 else "1 caption"
        )

    def _lay_out(self, buttons: list[QAction], menu: QMenu) -> None:
        top = QHBoxLayout()
        top.setSpacing(4)
        top.addWidget(self.search, 1)
        top.addSpacing(6)
        for action in buttons:
            button = QToolButton()
            button.setDefaultAction(action)
            button.setIconSize(QSize(18, 18))
            top.addWidget(button)
        more = QToolButton()
        more.setDefaultAction(menu.menuAction())
        more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        more.setIconSize(QSize(18, 18))
        top.addWidget(more)
        bottom = QHBoxLayout()
        bottom.addWidget(self.status, 1)
        bottom.addWidget(self.count)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(16, 14, 16, 12)
        whole.setSpacing(10)
        whole.addLayout(top)
        whole.addWidget(self.list, 1)
        whole.addLayout(bottom)


class _List(QListView):
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


class _Delegate(QStyledItemDelegate):
    """Draw a time and wrapped text; matches of the search are highlighted, text that may change is faded."""

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
        layout.draw(painter, QPointF(area.left() + TIME_PX, area.top() + PADDING_PX), self._formats(line))
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

    def _formats(self, line: Line) -> list[QTextLayout.FormatRange]:
        look = colours()
        formats = []
        if line.stable_chars < len(line.text):
            faded = QTextCharFormat()
            faded.setForeground(QColor(look.soft))
            formats.append(_range(line.stable_chars, len(line.text) - line.stable_chars, faded))
        if self.search_text:
            found = QTextCharFormat()
            found.setBackground(QColor(look.accent))
            found.setForeground(QColor(look.on_accent))
            text, search_text = line.text.lower(), self.search_text.lower()
            at = text.find(search_text)
            while at >= 0:
                formats.append(_range(at, len(search_text), found))
                at = text.find(search_text, at + len(search_text))
        return formats


def _range(start: int, length: int, form: QTextCharFormat) -> QTextLayout.FormatRange:
    part = QTextLayout.FormatRange()
    part.start, part.length, part.format = start, length, form
    return part
