"""The traces of a session's utterances and questions that are not done."""

from __future__ import annotations

from af3stream.protocol.messages import Answer, Caption, Error, ServerMessage
from af3stream.tracing import Trace, Tracing


class SessionTraces:
    """Traces what a session does. It has no clock: the session says what time it is.

    The spans of an utterance are `receive`, up to the pause that ends it, and `commit`, while its final caption waits
    for the disk. Those of a question are `wait`, up to its turn and the captions that it waits for, and `commit`. The
    engine adds its own.

    Attributes:
        now: clock seconds.
    """

    def __init__(self, tracing: Tracing, session: str) -> None:
        self.now = 0.0
        self._tracing = tracing
        self._session = session
        self._utterances: dict[int, Trace] = {}
        self._questions: dict[str, Trace] = {}
        self._kept: dict[Trace, float] = {}  # since when their last message waits for the disk

    # ---- utterances --------------------------------------------------------------------------------------------------

    def heard(self, number: int, arrived: float | None, closed: float | None = None) -> None:
        """Note that an utterance is to be captioned; its trace begins if it has none.

        Args:
            arrived: when its first audio arrived, in clock seconds; ``None``: before a restart, so it is not traced.
            closed: when the pause came that ends it; ``None``: the pause may still end.
        """
        if number not in self._utterances and arrived is not None:
            trace = self._tracing.start("utterance", arrived, session=self._session, utterance=number)
            self._utterances[number] = trace
        if closed is not None and (known := self._utterances.get(number)):
            known.child("receive", known.started, closed)

    def parent(self, number: int) -> str:
        """Return the `traceparent` for a job of an utterance; empty if it is not traced."""
        return self._utterances[number].parent if number in self._utterances else ""

    def wordless(self, number: int) -> None:
        """End the trace of an utterance that has no caption."""
        if trace := self._utterances.pop(number, None):
            trace.end(self.now, words=False)

    # ---- questions ---------------------------------------------------------------------------------------------------

    def asked(self, question: str) -> None:
        """Begin the trace of a question."""
        self._questions[question] = self._tracing.start("question", self.now, session=self._session)

    def run(self, question: str) -> str:
        """Note that the engine is to answer a question now; returns the `traceparent` for the job."""
        if (trace := self._questions.get(question)) is None:
            return ""
        trace.child("wait", trace.started, self.now)
        return trace.parent

    def first_token(self, question: str) -> None:
        """Note that the first piece of an answer has come."""
        if trace := self._questions.get(question):
            trace.event("first token", self.now)

    # ---- messages ----------------------------------------------------------------------------------------------------

    def kept(self, message: ServerMessage) -> None:
        """Note that a message may have to wait for the disk."""
        if trace := self._of(message):
            self._kept[trace] = self.now

    def told(self, message: ServerMessage) -> None:
        """End the trace whose last message is told."""
        if (trace := self._of(message)) is None:
            return
        trace.child("commit", self._kept.pop(trace, self.now), self.now)
        if isinstance(message, Caption):
            trace.end(self.now)
            del self._utterances[message.utterance]
        elif isinstance(message, Answer):
            trace.end(self.now, tokens=message.tokens, finish=message.finish)
            del self._questions[message.id]
        elif isinstance(message, Error) and message.ref:
            trace.end(self.now, error=message.code)
            del self._questions[message.ref]

    def _of(self, message: ServerMessage) -> Trace | None:
        """Return the trace whose last message this is."""
        match message:
            case Caption(utterance=number, final=True):
                return self._utterances.get(number)
            case Answer(id=question) | Error(ref=str(question)):
                return self._questions.get(question)
            case _:
                return None
