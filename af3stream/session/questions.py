"""Questions waiting and being answered, and the standing ones."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.config import QuestionsConfig
from af3stream.engine.contract import Completion
from af3stream.engine.jobs import AnswerJob
from af3stream.errors import BadText, QueryLimit
from af3stream.protocol.messages import Ask, Watch
from af3stream.session.captions import Wanted
from af3stream.session.horizon import Body

_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # UAX #9


@dataclass(eq=False, slots=True)
class Question:
    """One question on its way.

    Attributes:
        last_s: seconds it asks about, ``None`` for everything.
        asked_at: clock time of its arrival.
        watch: the standing question it is asked for.
        wanted: the words that it waits for, once it is its turn.
    """

    id: str
    text: str
    last_s: float | None
    max_tokens: int
    asked_at: float
    watch: StandingQuestion | None = None
    wanted: Wanted | None = None
    job: AnswerJob | None = None
    body: Body | None = None
    pieces: list[str] = field(default_factory=list)
    first_token_at: float | None = None
    completion: Completion | None = None


@dataclass(eq=False, slots=True)
class StandingQuestion:
    """A watch: asked again as windows close or as audio passes, told when its answer changes."""

    id: str
    text: str
    every: int | None  # samples at 16 kHz
    asked_up_to: int = 0
    last_answer: str | None = None
    waiting: bool = False


class Questions:
    """One session's questions, answered one after the other in the order they came; watches come after them."""

    def __init__(self, config: QuestionsConfig) -> None:
        self._config = config
        self._waiting: list[Question] = []
        self.running: Question | None = None
        self.watches: dict[str, StandingQuestion] = {}
        self.windows_closed = 0  # position up to which windows are closed and encoded

    @property
    def waiting_since(self) -> float | None:
        """When the next question to answer came, in clock seconds."""
        return self._waiting[0].asked_at if self._waiting else None

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be answered."""
        return not self._waiting and self.running is None

    def ask(self, message: Ask, now: float) -> None:
        """Queue a question.

        Raises:
            QueryLimit: where too many wait, the id is in use, or the text is too long.
            BadText: for a text without words.
        """
        text = self._clean(message.text, message.id)
        own = [question for question in self._all() if question.watch is None]
        if any(question.id == message.id and question.text == text for question in own):
            return  # sent again by a client that resumed
        if len(own) >= self._config.max_waiting:
            raise QueryLimit(f"at most {self._config.max_waiting} questions may wait at once", ref=message.id)
        if any(question.id == message.id for question in own):
            raise QueryLimit("this question's id is in use", ref=message.id)
        tokens = min(message.max_tokens or self._config.max_tokens, self._config.max_tokens)
        last_s = message.scope.last_s if message.scope else None
        place = next((i for i, question in enumerate(self._waiting) if question.watch), len(self._waiting))
        self._waiting.insert(place, Question(message.id, text, last_s, tokens, now))

    def watch(self, message: Watch) -> None:
        """Add a standing question, or replace the one with the same id.

        Raises:
            QueryLimit, BadText: as for a question.
        """
        text = self._clean(message.text, message.id)
        every = max(SAMPLE_RATE, round(message.every_s * SAMPLE_RATE)) if message.every_s else None
        known = self.watches.get(message.id)
        if known is not None and (known.text, known.every) == (text, every):
            return  # sent again by a client that resumed
        if known is None and len(self.watches) >= self._config.max_watches:
            raise QueryLimit(f"at most {self._config.max_watches} watches at once", ref=message.id)
        self.watches[message.id] = StandingQuestion(message.id, text, every)

    def unwatch(self, watch_id: str) -> None:
        """End a standing question; an answer under way for it is not told."""
        self.watches.pop(watch_id, None)
        self._waiting = [q for q in self._waiting if not (q.watch and q.watch.id == watch_id)]

    def due(self, watch: StandingQuestion, position: int, now: float) -> None:
        """Queue a watch's question, unless it waits already."""
        if watch.waiting:
            return
        watch.waiting, watch.asked_up_to = True, position
        self._waiting.append(Question(watch.id, watch.text, None, self._config.max_tokens, now, watch))

    def cancel(self, question_id: str) -> Question | None:
        """Take back a question of the client's; returns it where it was waiting or running."""
        for question in self._all():
            if question.id == question_id and question.watch is None:
                if question is self.running:
                    self.running = None
                else:
                    self._waiting.remove(question)
                return question
        return None

    def take(self, asked_before: float) -> Question | None:
        """The question whose turn it is, until it has a job; one that came later waits."""
        if self.running is None and self._waiting and self._waiting[0].asked_at <= asked_before:
            self.running = self._waiting.pop(0)
        return self.running if self.running and self.running.job is None else None

    def done(self) -> None:
        """The running question is answered."""
        if self.running and self.running.watch:
            self.running.watch.waiting = False
        self.running = None

    def _all(self) -> list[Question]:
        return [*([self.running] if self.running else []), *self._waiting]

    def _clean(self, text: str, ref: str) -> str:
        if len(text) > self._config.max_chars:
            raise QueryLimit(f"a question may have {self._config.max_chars} characters", ref=ref)
        return clean_text(text, ref)


def clean_text(text: str, ref: str | None = None) -> str:
    """People's words without control and bidirectional formatting characters, white space folded.

    Raises:
        BadText: for lone surrogates, and where nothing is left.
    """
    if any(unicodedata.category(c) == "Cs" for c in text):
        raise BadText("the text is not valid Unicode", ref=ref)
    spaced = re.sub(r"\s+", " ", text)
    cleaned = "".join(c for c in spaced if unicodedata.category(c) != "Cc" and c not in _BIDI).strip()
    if not cleaned:
        raise BadText("the text holds no words", ref=ref)
    return cleaned
