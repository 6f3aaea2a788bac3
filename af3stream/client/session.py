"""The session that callers use."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import Self, TypeVar

import msgspec

from af3stream.client.answers import Answered, AnswerStream, answered_ref
from af3stream.client.errors import SessionEnded
from af3stream.client.outgoing import END_REF
from af3stream.client.requests import RequestSender
from af3stream.client.transport import ReconnectingTransport, State
from af3stream.errors import Af3StreamError
from af3stream.protocol.features import FOLLOW_UPS
from af3stream.protocol.messages import (
    Answer,
    Ask,
    End,
    Ended,
    Flush,
    Flushed,
    NameSpeaker,
    Ready,
    Scope,
    ServerMessage,
    Unwatch,
    Watch,
)

Question = TypeVar("Question", Ask, Watch, NameSpeaker)


class Session:
    """Send audio, ask questions, and iterate over the server's messages.

    ``async for message in session`` yields every message until the session ends. A session survives lost connections.

    Every method may raise the error that ends the session: ``ConnectionLost`` if the connection is lost for good, the
    fatal ``ServerError``, and ``SessionEnded`` after the end.
    """

    def __init__(self, transport: ReconnectingTransport, id_prefix: str = "") -> None:
        self._id_prefix = id_prefix
        self._transport, self._protocol = transport, transport.protocol
        self._outgoing = self._protocol.outgoing
        self._requests = RequestSender(transport)
        self._numbers = itertools.count(1)
        self._sending = asyncio.Lock()  # one caller at a time assigns offsets

    @property
    def ready(self) -> Ready:
        """How the server set the session up."""
        return self._protocol.ready

    @property
    def state(self) -> State:
        """``open``; ``reconnecting`` after a lost connection, while audio and requests are kept; ``over``."""
        return self._transport.state

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
        return self._protocol.missed

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

    def __aiter__(self) -> Self:
        """Iterate over every message after ``ready``, until the session ends.

        A slow reader misses interim captions first (:class:`~af3stream.client.inbox.InterimsDroppedFirst`).

        Raises:
            ServerError: the fatal refusal that ended the session.
            ConnectionLost: if the connection is lost for good.
            ReaderTooSlow: if messages other than interims could not be kept.
        """
        return self

    async def __anext__(self) -> ServerMessage:
        try:
            await self._requests.until(lambda: self._protocol.inbox.readable)
        except SessionEnded:
            raise StopAsyncIteration from None
        return self._protocol.inbox.take()

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
        return AnswerStream(
            self._requests, _valid(Ask(self._new_id("q"), text, scope, max_tokens, answered_ref(after)))
        )

    async def watch(self, text: str, *, every_s: float | None = None) -> str:
        """Ask again as windows close, or every ``every_s`` seconds of audio; returns the id that its hits carry.

        A refusal is among the messages, with this id as its ``ref``.

        Raises:
            ValueError: for an ``every_s`` that is not positive.
        """
        watch = _valid(Watch(self._new_id("w"), text, every_s))
        await self._requests.send(watch)
        return watch.id

    async def unwatch(self, watch_id: str) -> None:
        """End a watch."""
        await self._requests.send(Unwatch(watch_id))

    async def name_speaker(self, speaker: int, name: str) -> None:
        """Give a speaker a name, or take it away with an empty one. :class:`SpeakerNamed` tells every client.

        A refusal is among the messages: ``unknown_speaker`` or ``bad_text``.

        Raises:
            ValueError: for a name of more than 64 characters, or a number that no speaker can have.
        """
        await self._requests.send(_valid(NameSpeaker(speaker, name)))

    async def flush(self) -> Flushed:
        """Have everything sent so far captioned now; returns when every final caption of it has arrived.

        Raises:
            ServerError: when the flush is refused.
        """
        name = self._new_id("f")
        reply = self._requests.expect(name)
        async with self._sending:
            await self._requests.send(Flush(name))
        return await self._requests.completed(reply, Flushed)

    async def end(self) -> Ended:
        """Declare the audio complete; returns when every final caption, answer and watch has arrived.

        Raises:
            ServerError: when the server counts other audio than was sent.
        """
        reply = self._requests.expect(END_REF)
        async with self._sending:
            await self._requests.send(End(self.sent))
        return await self._requests.completed(reply, Ended)

    async def _advance(self, frames: int, pcm: bytes | None) -> None:
        """Send the next ``frames`` once there is credit for them; without ``pcm``, declare them lost."""
        await self._requests.until(lambda: self._outgoing.has_credit(frames))
        self._requests.check_open()
        end = self._outgoing.append(frames, pcm)
        await self._transport.deliver(lambda: self._outgoing.said >= end)

    def _new_id(self, kind: str) -> str:
        return f"{kind}{self._id_prefix}{next(self._numbers)}"


def _valid(request: Question) -> Question:
    """The request, unless it breaks a bound: the server cannot tie its refusal of such a message to an id."""
    try:
        return msgspec.convert(msgspec.to_builtins(request), type(request))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
