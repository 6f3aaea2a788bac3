"""Model of one session for the windows: transcript, questions and status."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from PySide6.QtCore import QObject, Signal

from af3stream.protocol.messages import Answer, Error, Ready, ServerMessage
from af3stream_clients.captions.formatting import as_sentence
from af3stream_clients.captions.questions import Questions
from af3stream_clients.captions.session_status import Phase, Progress, StatusTracker
from af3stream_clients.captions.session_worker import AddressProvider, EventLoopThread, SessionWorker
from af3stream_clients.captions.settings import SpeechOptions
from af3stream_clients.captions.sources import Choice
from af3stream_clients.captions.transcript import Transcript

NAME_REFUSALS: Final = ("bad_text", "unknown_speaker")


class Conversation(QObject):
    """Connects a session worker to the model of its session.

    Signals:
        line: a new or changed ``Line``.
        question: a new or changed ``Question``.
        status: the new ``Status``.
        paused: whether capturing is paused.
        opened: the ``Ready`` of the session.
        name_refused: why the server refused a speaker's name.
    """

    line = Signal(object)
    question = Signal(object)
    status = Signal(object)
    paused = Signal(bool)
    opened = Signal(object)
    name_refused = Signal(str)

    def __init__(
        self,
        loop_thread: EventLoopThread,
        find_address: AddressProvider,
        choice: Choice,
        speech: SpeechOptions,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.choice, self.speech, self.began = choice, speech, datetime.now()
        self.transcript, self.questions, self.status_tracker = Transcript(), Questions(), StatusTracker()
        self._emitted = self.status_tracker.status
        self._worker = worker = SessionWorker(loop_thread, find_address, choice, speech, self)
        worker.phase.connect(self._on_phase)
        worker.heard.connect(self._on_message)
        worker.progress.connect(self._on_progress)
        worker.paused.connect(self._on_paused)
        worker.piece.connect(self._on_piece)
        worker.answered.connect(self._on_answered)
        worker.refused.connect(self._on_refused)
        worker.begin()

    def pause(self, paused: bool) -> None:
        """Pause or resume capturing."""
        self._worker.pause(paused)

    def ask(self, text: str, last_s: float | None = None, after: int | None = None) -> None:
        """Ask about everything heard, or about the last ``last_s`` seconds of it.

        Args:
            after: number of the question that this one follows up.
        """
        question = self.questions.ask(text, after)
        self.question.emit(question)
        self._worker.ask(question.number, text, last_s, after)

    def stop_answer(self, number: int) -> None:
        """Stop an answer."""
        self._worker.cancel(number)

    def name_speaker(self, speaker: int, name: str) -> None:
        """Give a speaker a name, or take it away with an empty one; the server confirms it."""
        self._worker.name_speaker(speaker, name)

    def leave(self) -> None:
        """End the session; no further signal is sent."""
        self.blockSignals(True)
        self._worker.leave()

    def _on_phase(self, phase: Phase, reason: str) -> None:
        self.status_tracker.phase, self.status_tracker.reason = phase, reason
        self._emit_status()

    def _on_message(self, message: ServerMessage) -> None:
        self.status_tracker.receive(message)
        for line in self.transcript.receive(message):
            self.line.emit(line)
        if isinstance(message, Ready):
            self.opened.emit(message)
        if isinstance(message, Error) and message.code in NAME_REFUSALS and message.ref is None:
            self.name_refused.emit(as_sentence(message.message))
        self._emit_status()

    def _on_progress(self, progress: Progress) -> None:
        self.status_tracker.progress = progress
        self._emit_status()

    def _on_paused(self, paused: bool, source_problem: str) -> None:
        self.status_tracker.paused, self.status_tracker.source_problem = paused, source_problem
        self.paused.emit(paused)
        self._emit_status()

    def _on_piece(self, number: int, text: str) -> None:
        self.question.emit(self.questions.piece(number, text))

    def _on_answered(self, number: int, answer: Answer) -> None:
        self.question.emit(self.questions.answered(number, answer))

    def _on_refused(self, number: int, reason: str) -> None:
        self.question.emit(self.questions.refused(number, reason))

    def _emit_status(self) -> None:
        if (status := self.status_tracker.status) != self._emitted:
            self._emitted = status
            self.status.emit(status)
