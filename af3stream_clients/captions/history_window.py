"""Window with the whole transcript: times, speakers, search, copy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from PySide6.QtCore import QModelIndex, QSize, QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QAction, QCloseEvent, QGuiApplication, QKeySequence
from PySide6.QtWidgets import QHBoxLayout, QInputDialog, QLabel, QLineEdit, QMenu, QToolButton, QVBoxLayout, QWidget

from af3stream_clients.captions.history_list import LINE, HistoryDelegate, HistoryList, HistoryModel
from af3stream_clients.captions.session_status import Status
from af3stream_clients.captions.theme import colours, styled
from af3stream_clients.captions.transcript import Line, Transcript, plain

NAME_CHARS: Final = 64  # of the protocol


class HistoryWindow(QWidget):
    """Window with the transcript of this session.

    Signals:
        speaker_named: a speaker's number, and the name that the user gave, or an empty string.
    """

    speaker_named = Signal(int, str)

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
        self.list = HistoryList()
        self.list.setModel(self._found)
        self._delegate = HistoryDelegate(self.list)
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
        self.name = QAction("&Name the speaker…", self, shortcut=QKeySequence(Qt.Key.Key_F2), enabled=False)
        self.name.triggered.connect(self._name_speaker)
        self.list.selectionModel().currentChanged.connect(lambda *_: self._refresh_name())
        self.list.addActions([copy, self.name])
        self.addActions([find])
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        self.resize(680, 560)
        self._recount()

    def put(self, transcript: Transcript, line: Line) -> None:
        """Add, change or remove the row of an utterance."""
        bar = self.list.verticalScrollBar()
        following = bar.value() >= bar.maximum() - 4
        self.model.put(transcript, line)
        self._refresh_name()
        if following:
            self.list.scrollToBottom()
        self._recount()

    def clear(self) -> None:
        """Remove all rows."""
        self.model.clear()
        self._refresh_name()
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

    def _name_speaker(self) -> None:
        """Ask for the name of the current row's speaker."""
        line: Line = self.list.currentIndex().data(LINE)
        known = "" if line.name == f"Speaker {line.speaker}" else line.name
        prompt = f"Name of speaker {line.speaker}. Leave it empty to show the number."
        name, chosen = QInputDialog.getText(self, "Name the speaker", prompt, text=known)
        if chosen and line.speaker is not None:
            self.speaker_named.emit(line.speaker, name.strip()[:NAME_CHARS])

    def _refresh_name(self) -> None:
        """Offer to name a speaker only if the current row has one."""
        line: Line | None = self.list.currentIndex().data(LINE)
        self.name.setEnabled(line is not None and line.speaker is not None)

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
