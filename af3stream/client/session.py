"""One conversation with the service, as its client sees it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

from af3stream.client.answers import Answered, AnswerStream, Reply, answered_ref
from af3stream.client.errors import ServerError, SessionEnded
from af3stream.client.outgoing import END_REF, Request
from af3stream.client.transport import ReconnectingTransport, State
from af3stream.errors import Af3StreamError
from af3stream.protocol.features import FOLLOW_UPS
from af3stream.protocol.messages import (
    Answer,
    Ask,
    End,
    Ended,
    Error,
    Flush,
    Flushed,
    Ready,
    Scope,
    ServerMessage,
    Unwatch,
    Watch,
)

Outcome = TypeVar("Outcome", Answer, Flushed, Ended)
Question = TypeVar("Question", Ask, Watch)


class Session:
    """A session, over one connection after another.

    What ends it, every method may raise: ``ConnectionLost`` when no other connection can take the place of one that is
    lost, the fatal ``ServerError``, and ``SessionEnded`` after the end.
    """

    def __init__(self, line: ReconnectingTransport, names: str = "") -> None:
        self._names = names  # in the ids of its requests
        self._line, self._dialogue, self._outgoing = line, line.dialogue, line.dialogue.outgoing
        self._numbers = itertools.count(1)
        self._sending = asyncio.Lock()  # one caller at a time assigns offsets

    @property
    def ready(self) -> Ready:
        """How the server set the session up."""
        return self._dialogue.ready

    @property
    def state(self) -> State:
        """``open``; ``reconnecting`` after a lost connection, while audio and requests are kept; ``over``."""
        return self._line.state

    @property
    def sent(self) -> int:
        """Sample frames sent or declared lost."""
        return self._outgoing.sent

    @property
    def received(self) -> int:
        """Sample frames that the server says it has."""
        return self._outgoing.received

    @property
    def processed(self) -> int:
        """Sample frames that the server says are captioned and encoded."""
        return self._outgoing.processed

    @property
    def durable(self) -> int:
        """Sample frames that need not be kept here any more: the server has them, on disk if it has one."""
        return self._outgoing.durable

    @property
    def missed_events(self) -> int:
        """Final captions, answers and watch hits that the server numbered and never sent: normally 0."""
        return self._dialogue.missed

    @property
    def ahead_s(self) -> float:
        """Seconds of audio sent and not yet processed: what the credit limits. The open window is part of it."""
        return (self.sent - self.processed) / self.ready.rate

    async def send(self, pcm: bytes) -> None:
        """Send audio in the session's format, any whole number of sample frames.

        Waits while the server is more than its credit behind, and no longer while the connection is lost. Audio that
        the server refuses is declared lost, so that the timeline goes on; the refusal itself is among the messages.

        Raises:
            ValueError: for a part of a sample frame.
            SourceError: when the spool takes no more; nothing of the piece that did not fit is sent.
        """
        size = self._outgoing.frame_bytes
        if len(pcm) % size:
            raise ValueError(f"{len(pcm)} bytes are not a whole number of {size}-byte sample frames")
        begin = 0
        async with self._sending:
            for frames in self._outgoing.pieces(len(pcm) // size):
                end = begin + frames * size
                await self._advance(frames, pcm[begin:end])
                begin = end

    async def gap(self, frames: int) -> None:
        """Declare ``frames`` sample frames lost; they count as silence, and against the credit.

        Raises:
            ValueError: for less than one frame.
        """
        if frames < 1:
            raise ValueError(f"a gap has at least one sample frame, not {frames}")
        async with self._sending:
            for piece in self._outgoing.pieces(frames):
                await self._advance(piece, None)

    async def messages(self) -> AsyncIterator[ServerMessage]:
        """Every message after ``ready``, until the session ends.

        A reader that is slow misses interim captions first (:class:`~af3stream.client.inbox.InterimsDroppedFirst`).

        Raises:
            ServerError: the fatal refusal that ended the session.
            ConnectionLost: when the server went away, and no other connection could take its place.
            ReaderTooSlow: when messages other than interims could not be kept.
        """
        while (message := await self.next_message()) is not None:
            yield message

    async def next_message(self) -> ServerMessage | None:
        """The next of :meth:`messages`, or ``None`` once the session has ended; raises what they raise."""
        try:
            await self._until(lambda: self._dialogue.inbox.readable)
        except SessionEnded:
            return None
        return self._dialogue.inbox.take()

    async def ask(
        self,
        text: str,
        *,
        last_s: float | None = None,
        max_tokens: int | None = None,
        after: Answered | None = None,
    ) -> Answer:
        """Ask about what was heard, and wait for the whole answer. A cancelled call cancels the question.

        Args:
            last_s: hear only the windows that reach into the last so many seconds; by default all within the horizon.
            max_tokens: bounds the answer; by default as the server is configured.
            after: what the question follows up: an answer, one that is on its way, a question's id, or the ``event``
                of an answer.

        Raises:
            ValueError: for a ``last_s`` or ``max_tokens`` that is not positive, and for ``after`` where the server
                takes no follow-ups.
            ServerError: when the question is refused, as with ``unknown_question``.
        """
        stream = self.ask_stream(text, last_s=last_s, max_tokens=max_tokens, after=after)
        try:
            return await stream.answer()
        except asyncio.CancelledError:
            with suppress(Af3StreamError):
                await stream.cancel()
            raise

    def ask_stream(
        self,
        text: str,
        *,
        last_s: float | None = None,
        max_tokens: int | None = None,
        after: Answered | None = None,
    ) -> AnswerStream:
        """As :meth:`ask`, but the answer piece by piece: ``async for piece in session.ask_stream(text)``."""
        if after is not None and FOLLOW_UPS not in self.ready.features:
            raise ValueError("the server takes no questions that follow up others")
        scope = None if last_s is None else Scope(last_s)
        return AnswerStream(self, _valid(Ask(self._name("q"), text, scope, max_tokens, answered_ref(after))))

    async def watch(self, text: str, *, every_s: float | None = None) -> str:
        """Ask again as windows close, or every ``every_s`` seconds of audio; returns the id that its hits carry.

        A refusal is among the messages, with this id as its ``ref``.

        Raises:
            ValueError: for an ``every_s`` that is not positive.
        """
        watch = _valid(Watch(self._name("w"), text, every_s))
        await self._say(watch)
        return watch.id

    async def unwatch(self, watch_id: str) -> None:
        """End a watch."""
        await self._say(Unwatch(watch_id))

    async def flush(self) -> Flushed:
        """Have everything sent so far captioned now; returns when every final caption of it has arrived.

        Raises:
            ServerError: when the flush is refused.
        """
        name = self._name("f")
        reply = self._expect(name)
        async with self._sending:
            await self._say(Flush(name))
        return await self._settled(reply, Flushed)

    async def end(self) -> Ended:
        """Declare the audio complete; returns when every final caption, answer and watch has arrived.

        Raises:
            ServerError: when the server counts other audio than was sent.
        """
        reply = self._expect(END_REF)
        async with self._sending:
            await self._say(End(self.sent))
        return await self._settled(reply, Ended)

    async def close(self, reason: Af3StreamError) -> None:
        """End every wait with ``reason``, unless the session is over already."""
        await self._line.close(reason)

    async def _advance(self, frames: int, pcm: bytes | None) -> None:
        """Say the next ``frames`` once there is credit for them; without ``pcm``, as lost."""
        await self._until(lambda: self._outgoing.has_credit(frames))
        self._must_go_on()
        end = self._outgoing.append(frames, pcm)
        await self._line.deliver(lambda: self._outgoing.said >= end)

    async def _say(self, request: Request) -> None:
        self._must_go_on()
        placed = self._outgoing.request(request)
        await self._line.deliver(lambda: placed.said)

    def _must_go_on(self) -> None:
        if self._dialogue.over:
            raise self._dialogue.over

    async def _until(self, done: Callable[[], bool]) -> None:
        await self._line.until(done)

    async def _settled(self, reply: Reply, kind: type[Outcome]) -> Outcome:
        await self._until(lambda: reply.outcome is not None)
        if isinstance(reply.outcome, Error):
            raise ServerError(reply.outcome)
        assert isinstance(reply.outcome, kind)
        return reply.outcome

    def _expect(self, ref: str) -> Reply:
        return self._dialogue.expect(ref)

    def _name(self, kind: str) -> str:
        return f"{kind}{self._names}{next(self._numbers)}"


def _valid(request: Question) -> Question:
    """The request, unless it breaks a bound: the server cannot tie its refusal of such a message to an id."""
    try:
        return msgspec.convert(msgspec.to_builtins(request), type(request))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
