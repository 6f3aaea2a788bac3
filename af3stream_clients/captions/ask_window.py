"""Window to ask questions, and to read their answers as they arrive."""

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
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from af3stream_clients.captions.questions import Question
from af3stream_clients.captions.theme import styled

SCOPES: Final = (
    ("everything heard", None),
    ("the last minute", 60.0),
    ("the last 5 minutes", 300.0),
    ("the last 30 minutes", 1800.0),
)
MAX_CHARS: Final = 2_000
FOLLOW_UP: Final = ">"  # first character of a follow-up to the newest answer, as in `listen --ask`
INDENT_PX: Final = 16  # of all replies, whatever their depth


class AskWindow(QWidget):
    """Questions and answers, newest first; follow-ups are below the answers that they reply to.

    Attributes:
        cards: the widget of each question, by the question's number.

    Signals:
        asked: text of a question; how many of the last seconds it is about, or ``None`` for everything heard; and the
            number of the question that it follows up, or ``None``.
        stopped: number of a question whose answer the user stopped.
    """

    asked = Signal(str, object, object)
    stopped = Signal(int)

    def __init__(self) -> None:
        super().__init__(None, Qt.WindowType.Window | Qt.WindowType.WindowStaysOnTopHint)
        self.setWindowTitle("Questions")
        self.cards: dict[int, Card] = {}
        self._newest: Question | None = None  # the newest one that takes a reply
        self.button = QPushButton("Ask")
        self.button.setProperty("primary", True)
        self.button.setEnabled(False)
        self.button.clicked.connect(self._ask)
        self.field = QLineEdit()
        self.field.setAccessibleName("Your question")
        self.field.setMaxLength(MAX_CHARS)
        self.field.returnPressed.connect(self._ask)
        self.field.textChanged.connect(lambda text: self.button.setEnabled(bool(text.strip())))
        self.field.textEdited.connect(self._typed)
        self.replying = _Replying()
        self.replying.left.connect(self.leave_reply)
        self.scope = QComboBox()
        self.scope.setAccessibleName("What the question is about")
        for text, last_s in SCOPES:
            self.scope.addItem(text, last_s)
        self._lay_out()
        self.leave_reply()
        QShortcut(QKeySequence(Qt.Key.Key_Escape), self, self._escape)
        self.resize(460, 540)

    def put(self, question: Question) -> None:
        """Show a new or changed question."""
        if question.number not in self.cards:
            card = self.cards[question.number] = Card(question)
            card.stop.clicked.connect(lambda: self.stopped.emit(question.number))
            card.reply.clicked.connect(lambda: self.reply(question))
            if question.after is None:
                self._answers.insertWidget(0, card)
            else:
                self.cards[question.after].add_reply(card)
            self._hint.hide()
        self.cards[question.number].show_question(question)
        if question.takes_replies:
            self._newest = question

    def clear(self) -> None:
        """Remove all questions."""
        for card in self.cards.values():
            card.deleteLater()
        self.cards, self._newest = {}, None
        self.leave_reply()
        self._hint.show()

    def reply(self, question: Question) -> None:
        """Make the next question a follow-up to this one."""
        self.replying.show_question(question)
        self.field.setPlaceholderText("Ask a follow-up")
        self.field.setAccessibleDescription(f"Replying to: {question.text}")
        self.button.setText("Reply")
        self.field.setFocus()

    def leave_reply(self) -> None:
        """Make the next question a separate one; the typed text stays."""
        self.replying.show_question(None)
        self.field.setPlaceholderText("Ask about what was heard")
        self.field.setAccessibleDescription("")
        self.button.setText("Ask")

    def _typed(self, text: str) -> None:
        if text.startswith(FOLLOW_UP) and self._newest:
            self.field.setText(text.removeprefix(FOLLOW_UP).lstrip())
            self.reply(self._newest)

    def _escape(self) -> None:
        if self.replying.number is None:
            self.close()
        else:
            self.leave_reply()

    def _ask(self) -> None:
        if text := self.field.text().strip():
            after = self.replying.number
            self.field.clear()
            self.leave_reply()
            self.asked.emit(text, self.scope.currentData(), after)

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
        whole.addWidget(self.replying)
        whole.addLayout(top)
        whole.addLayout(about)
        whole.addWidget(scroll, 1)


class _Replying(QFrame):
    """Shows which answer the next question replies to, if any.

    Signals:
        left: the user cancelled the reply.

    Attributes:
        number: number of the question that is replied to, or ``None``.
    """

    left = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("replying")
        self.number: int | None = None
        self.text = QLabel(textFormat=Qt.TextFormat.PlainText)
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        leave = QPushButton("Cancel")
        leave.setAccessibleName("Do not reply")
        leave.clicked.connect(self.left)
        whole = QHBoxLayout(self)
        whole.setContentsMargins(10, 4, 4, 4)
        whole.addWidget(self.text, 1)
        whole.addWidget(leave)

    def show_question(self, question: Question | None) -> None:
        """Show the question that is replied to, or hide if there is none."""
        self.number = question.number if question else None
        self.text.setText(f"Replying to: {question.text}" if question else "")
        self.setVisible(question is not None)


class Card(QFrame):
    """Shows one question, its answer, and the replies to it."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.setObjectName("card" if question.after is None else "reply")
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
        self.reply = QPushButton("Reply")
        self.reply.setAccessibleName(f"Reply to the answer to: {question.text}")
        foot = QHBoxLayout()
        foot.addWidget(self.note, 1)
        foot.addWidget(self.stop)
        foot.addWidget(self.reply)
        foot.addWidget(self.copy)
        whole = QVBoxLayout(self)
        inset = 0 if question.after is not None else INDENT_PX
        whole.setContentsMargins(inset, 14, inset, 10)
        whole.setSpacing(6)
        whole.addWidget(self.question)
        whole.addWidget(self.answer)
        whole.addLayout(foot)
        self._replies = QVBoxLayout()
        self._replies.setContentsMargins(inset, 0, 0, 0)
        self._replies.setSpacing(0)
        whole.addLayout(self._replies)

    def add_reply(self, card: Card) -> None:
        """Add a reply below the answer."""
        self._replies.addWidget(card)

    def show_question(self, question: Question) -> None:
        """Show the current state of the question."""
        busy = question.state in ("waiting", "answering")
        self.answer.setText(question.answer or ("…" if busy else ""))
        self.answer.setAccessibleDescription(question.answer)
        self.answer.setVisible(bool(self.answer.text()))
        self.note.setText(question.note)
        self.note.setObjectName("refused" if question.state == "refused" else "note")
        self.note.style().polish(self.note)
        self.stop.setVisible(busy)
        self.copy.setVisible(question.state == "answered")
        self.reply.setVisible(question.takes_replies)
