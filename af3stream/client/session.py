"""Send audio, ask questions and read messages: the session of the SDK."""

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
from af3stream.protocol.features import FOLLOW_UPS, INSTRUCTIONS
from af3stream.protocol.messages import (
    Answer,
    Ask,
    End,
    Ended,
    Flush,
    Flushed,
    Instruct,
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

    ``async for message in session`` yields every message until the session ends.
    A session survives lost connections.

    Every method may raise the error that ended the session: ``ConnectionLost`` if the client could not reconnect, a
    fatal ``ServerError``, or ``SessionEnded`` after the end.
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
        """The ``ready`` message of the newest connection, with the settings of the session."""
        return self._protocol.ready

    @property
    def state(self) -> State:
        """``open``, ``over``, or ``reconnecting``: the connection is lost, and audio and requests are kept."""
        return self._transport.state

    @property
    def sent(self) -> int:
        """Number of sample frames sent or declared lost."""
        return self._outgoing.sent

    @property
    def received(self) -> int:
        """Number of sample frames that the server has received."""
        return self._outgoing.received

    @property
    def processed(self) -> int:
        """Number of sample frames that the server has captioned and encoded."""
        return self._outgoing.processed

    @property
    def durable(self) -> int:
        """Number of sample frames that the client need not keep: the server has them, on disk if it keeps sessions."""
        return self._outgoing.durable

    @property
    def missed_events(self) -> int:
        """Number of final captions, answers and watch hits that never arrived, by their event numbers; normally 0."""
        return self._protocol.missed

    @property
    def ahead_s(self) -> float:
        """Seconds of audio sent and not yet processed, the open window included. The credit limits this value."""
        return (self.sent - self.processed) / self.ready.rate

    async def send(self, pcm: bytes) -> None:
        """Send audio in the session's format.

        Waits until the server's credit allows more audio. While the connection is lost, audio within the credit is
        kept, and is sent after a reconnect. Audio that the server refuses is declared lost, so that later offsets stay
        valid; the refusal is one of the session's messages.

        Args:
            pcm: any whole number of sample frames, channels interleaved.

        Raises:
            ValueError: if the bytes end within a sample frame.
            SourceError: if the spool cannot be written; the piece that did not fit is not sent.
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
        """Declare ``frames`` sample frames lost. They count as silence, and against the credit.

        Raises:
            ValueError: if ``frames`` is less than 1.
        """
        if frames < 1:
            raise ValueError(f"a gap has at least one sample frame, not {frames}")
        async with self._sending:
            for piece in self._outgoing.pieces(frames):
                await self._advance(piece, None)

    def __aiter__(self) -> Self:
        """Iterate over every message after ``ready``, until the session ends.

        If the caller reads slowly, interim captions are dropped first.

        Raises:
            ServerError: if a fatal refusal ended the session.
            ConnectionLost: if the client could not reconnect.
            ReaderTooSlow: if messages other than interim captions were dropped.
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
        """Ask about the audio sent so far, and wait for the whole answer. If the call is cancelled, so is the question.

        Args:
            text: the question.
            last_s: use only the windows that overlap the last ``last_s`` seconds; by default the whole context window.
            max_tokens: the most tokens of the answer; by default the server's setting.
            after: the answer that the question follows up: an ``Answer``, an ``AnswerStream``, the id of a question,
                or the ``event`` of an answer.

        Raises:
            ValueError: if ``last_s`` or ``max_tokens`` is not positive, or the server does not support ``after``.
            ServerError: if the question is refused, for example with the code ``unknown_question``.
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
        """Ask, and read the answer piece by piece: ``async for piece in session.ask_stream(text)``.

        The arguments and errors are those of ``ask``.
        """
        if after is not None and FOLLOW_UPS not in self.ready.features:
            raise ValueError("the server takes no questions that follow up others")
        scope = None if last_s is None else Scope(last_s)
        return AnswerStream(
            self._requests, _valid(Ask(self._new_id("q"), text, scope, max_tokens, answered_ref(after)))
        )

    async def watch(self, text: str, *, every_s: float | None = None) -> str:
        """Start a standing question. A ``WatchHit`` arrives whenever its answer changes.

        Args:
            text: the question.
            every_s: seconds of audio between two evaluations; by default it is evaluated when a window closes.

        Returns:
            The id of the watch, which its hits carry. A refusal is one of the session's messages, with this id as
            its ``ref``.

        Raises:
            ValueError: if ``every_s`` is not positive.
        """
        watch = _valid(Watch(self._new_id("w"), text, every_s))
        await self._requests.send(watch)
        return watch.id

    async def unwatch(self, watch_id: str) -> None:
        """Stop a standing question."""
        await self._requests.send(Unwatch(watch_id))

    async def name_speaker(self, speaker: int, name: str) -> None:
        """Give a speaker a name, or take it away with an empty one. :class:`SpeakerNamed` tells every client.

        A refusal is among the messages: ``unknown_speaker`` or ``bad_text``.

        Raises:
            ValueError: for a name of more than 64 characters, or a number that no speaker can have.
        """
        await self._requests.send(_valid(NameSpeaker(speaker, name)))

    async def instruct(self, text: str) -> None:
        """Change the instructions, the system turn of later questions and watches. Empty ones are the model's own.

        The server reads the audio again with them, which takes a while; until then questions hear what is read. A
        refusal is among the messages: ``query_limit`` or ``bad_text``.

        Raises:
            ValueError: if the server takes no instructions, or none of this length.
        """
        if INSTRUCTIONS not in self.ready.features:
            raise ValueError("the server takes no instructions")
        if len(text) > (most := self.ready.max_instructions_chars):
            raise ValueError(f"instructions may have {most} characters")
        await self._requests.send(Instruct(text))

    async def flush(self) -> Flushed:
        """End the open utterance and window now, and wait until every final caption of the audio so far has arrived.

        Raises:
            ServerError: if the flush is refused.
        """
        name = self._new_id("f")
        reply = self._requests.expect(name)
        async with self._sending:
            await self._requests.send(Flush(name))
        return await self._requests.completed(reply, Flushed)

    async def end(self) -> Ended:
        """Declare the audio complete, and wait until every final caption, answer and watch hit has arrived.

        Raises:
            ServerError: if the server received another amount of audio than was sent.
        """
        reply = self._requests.expect(END_REF)
        async with self._sending:
            await self._requests.send(End(self.sent))
        return await self._requests.completed(reply, Ended)

    async def _advance(self, frames: int, pcm: bytes | None) -> None:
        """Send the next ``frames`` when the credit allows it; if ``pcm`` is ``None``, declare them lost."""
        await self._requests.until(lambda: self._outgoing.has_credit(frames))
        self._requests.check_open()
        end = self._outgoing.append(frames, pcm)
        await self._transport.deliver(lambda: self._outgoing.said >= end)

    def _new_id(self, kind: str) -> str:
        return f"{kind}{self._id_prefix}{next(self._numbers)}"


def _valid(request: Question) -> Question:
    """Return the request if its values are valid. The server could not name its id in a refusal."""
    try:
        return msgspec.convert(msgspec.to_builtins(request), type(request))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
