"""The window of questions: ask about what was heard, watch the answer come, read the earlier ones."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from clients.captions.questions import Question
from clients.captions.theme import styled

SCOPES: Final = (
    ("everything heard", None),
    ("the last minute", 60.0),
    ("the last 5 minutes", 300.0),
    ("the last 30 minutes", 1800.0),
)
MAX_CHARS: Final = 2_000


class AskWindow(QWidget):
    """Questions and answers, the newest first.

    Signals:
        asked: a question's text, and the last how many seconds it is about; ``None``: everything heard.
        stopped: the number of a question whose answer is long enough.
    """

    asked = Signal(str, object)
    stopped = Signal(int)

    def __init__(self) -> None:
        super().__init__(None, Qt.WindowType.Window | Qt.WindowType.WindowStaysOnTopHint)
        self.setWindowTitle("Questions")
        self._cards: dict[int, _Card] = {}
        self.button = QPushButton("Ask")
        self.button.setProperty("primary", True)
        self.button.setEnabled(False)
        self.button.clicked.connect(self._ask)
        self.field = QLineEdit()
        self.field.setPlaceholderText("Ask about what was heard")
        self.field.setAccessibleName("Your question")
        self.field.setMaxLength(MAX_CHARS)
        self.field.returnPressed.connect(self._ask)
        self.field.textChanged.connect(lambda text: self.button.setEnabled(bool(text.strip())))
        self.scope = QComboBox()
        self.scope.setAccessibleName("What the question is about")
        for text, last_s in SCOPES:
            self.scope.addItem(text, last_s)
        self._lay_out()
        QShortcut(QKeySequence(Qt.Key.Key_Escape), self, self.close)
        self.resize(460, 540)

    def put(self, question: Question) -> None:
        """A question is new, or has news."""
        if question.number not in self._cards:
            card = self._cards[question.number] = _Card(question)
            card.stop.clicked.connect(lambda: self.stopped.emit(question.number))
            self._answers.insertWidget(0, card)
            self._hint.hide()
        self._cards[question.number].show_question(question)

    def clear(self) -> None:
        """Forget everything."""
        for card in self._cards.values():
            card.deleteLater()
        self._cards = {}
        self._hint.show()

    def _ask(self) -> None:
        if text := self.field.text().strip():
            self.field.clear()
            self.asked.emit(text, self.scope.currentData())

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self.field, 1)
        top.addWidget(self.button)
        about = QHBoxLayout()
        label = styled(QLabel("About"), "hint")
        label.setBuddy(self.scope)
        about.addWidget(label)
        about.addWidget(self.scope)
        about.addStretch(1)
        self._hint = styled(QLabel("Answers come from the sound itself, while it goes on.", wordWrap=True), "hint")
        self._hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._hint.setContentsMargins(24, 48, 24, 48)
        inner = QWidget()
        within = QVBoxLayout(inner)
        within.setContentsMargins(0, 0, 0, 0)
        within.setSpacing(0)
        within.addWidget(self._hint)
        self._answers = QVBoxLayout()
        self._answers.setSpacing(0)
        within.addLayout(self._answers)
        within.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setAccessibleName("Questions and answers")
        scroll.setWidget(inner)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(16, 14, 16, 14)
        whole.setSpacing(10)
        whole.addLayout(top)
        whole.addLayout(about)
        whole.addWidget(scroll, 1)


class _Card(QFrame):
    """One question and its answer."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.setObjectName("card")
        readable = Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        self.question = styled(QLabel(question.text, wordWrap=True), "question")
        self.answer = QLabel(wordWrap=True, textInteractionFlags=readable)
        self.note = styled(QLabel(wordWrap=True), "note")
        for label in (self.question, self.answer, self.note):
            label.setTextFormat(Qt.TextFormat.PlainText)
        self.answer.setAccessibleName(f"Answer to: {question.text}")
        self.stop = QPushButton("Stop")
        self.stop.setAccessibleName(f"Stop the answer to: {question.text}")
        self.copy = QPushButton("Copy")
        self.copy.setAccessibleName(f"Copy the answer to: {question.text}")
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.answer.text()))
        foot = QHBoxLayout()
        foot.addWidget(self.note, 1)
        foot.addWidget(self.stop)
        foot.addWidget(self.copy)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(16, 14, 16, 10)
        whole.setSpacing(6)
        whole.addWidget(self.question)
        whole.addWidget(self.answer)
        whole.addLayout(foot)

    def show_question(self, question: Question) -> None:
        """As it stands now."""
        busy = question.state in ("waiting", "answering")
        self.answer.setText(question.answer or ("…" if busy else ""))
        self.answer.setAccessibleDescription(question.answer)
        self.answer.setVisible(bool(self.answer.text()))
        self.note.setText(question.note)
        self.note.setObjectName("refused" if question.state == "refused" else "note")
        self.note.style().polish(self.note)
        self.stop.setVisible(busy)
        self.copy.setVisible(question.state == "answered")
