"""One session as the windows know it: everything that was said and asked, and how things stand."""

from __future__ import annotations

from datetime import datetime

from PySide6.QtCore import QObject, Signal

from af3stream.protocol.messages import Answer, Caption, CaptionUpdate, ServerMessage
from clients.captions.link import Background, Link, Reach
from clients.captions.questions import Questions
from clients.captions.sources import Choice
from clients.captions.standing import Phase, Progress, Standing
from clients.captions.transcript import Transcript


class Conversation(QObject):
    """Ties a link to what is known of its session.

    Signals:
        line: a :class:`Line` as it reads now.
        question: a :class:`Question` with news.
        status: the new :class:`Status`.
        paused: whether it takes no sound.
    """

    line = Signal(object)
    question = Signal(object)
    status = Signal(object)
    paused = Signal(bool)

    def __init__(self, background: Background, reach: Reach, choice: Choice, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.choice, self.began = choice, datetime.now()
        self.transcript, self.questions, self.standing = Transcript(), Questions(), Standing()
        self._told = self.standing.status
        self._link = link = Link(background, reach, choice, self)
        link.phase.connect(self._on_phase)
        link.heard.connect(self._on_message)
        link.progress.connect(self._on_progress)
        link.paused.connect(self._on_paused)
        link.piece.connect(self._on_piece)
        link.answered.connect(self._on_answered)
        link.refused.connect(self._on_refused)
        link.begin()

    def pause(self, paused: bool) -> None:
        """Take no more sound, or take it again."""
        self._link.pause(paused)

    def ask(self, text: str, last_s: float | None = None, after: int | None = None) -> None:
        """Ask about everything heard, or the last so many seconds of it.

        Args:
            after: number of the question whose answer this one replies to.
        """
        question = self.questions.ask(text, after)
        self.question.emit(question)
        self._link.ask(question.number, text, last_s, after)

    def stop_answer(self, number: int) -> None:
        """Stop an answer where it is."""
        self._link.cancel(number)

    def leave(self) -> None:
        """End the session, and say nothing more."""
        self.blockSignals(True)
        self._link.leave()

    def _on_phase(self, phase: Phase, reason: str) -> None:
        self.standing.phase, self.standing.reason = phase, reason
        self._tell()

    def _on_message(self, message: ServerMessage) -> None:
        self.standing.hear(message)
        if isinstance(message, Caption) and (line := self.transcript.hear(message)):
            self.line.emit(line)
        if isinstance(message, CaptionUpdate) and (line := self.transcript.correct(message)):
            self.line.emit(line)
        self._tell()

    def _on_progress(self, progress: Progress) -> None:
        self.standing.progress = progress
        self._tell()

    def _on_paused(self, paused: bool, trouble: str) -> None:
        self.standing.paused, self.standing.trouble = paused, trouble
        self.paused.emit(paused)
        self._tell()

    def _on_piece(self, number: int, text: str) -> None:
        self.question.emit(self.questions.piece(number, text))

    def _on_answered(self, number: int, answer: Answer) -> None:
        self.question.emit(self.questions.answered(number, answer))

    def _on_refused(self, number: int, reason: str) -> None:
        self.question.emit(self.questions.refused(number, reason))

    def _tell(self) -> None:
        if (status := self.standing.status) != self._told:
            self._told = status
            self.status.emit(status)
