"""One conversation with the service, as its client sees it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from af3stream.client.answers import AnswerStream, Reply
from af3stream.client.errors import ConnectionLost, ServerError, SessionEnded
from af3stream.client.inbox import InterimsDroppedFirst
from af3stream.client.outgoing import Outgoing
from af3stream.errors import Af3StreamError, BadMessage
from af3stream.protocol.codec import Codec
from af3stream.protocol.messages import (
    Ack,
    Answer,
    AnswerDelta,
    Ask,
    Audio,
    ClientMessage,
    End,
    Ended,
    Error,
    Flush,
    Flushed,
    Gap,
    Ready,
    Scope,
    ServerMessage,
    Unwatch,
    Watch,
)

INBOX_MESSAGES: Final = 4_096
END_REF: Final = "end"  # `end` has no id on the wire; its refusal is known by its code

Outcome = TypeVar("Outcome", Answer, Flushed, Ended)
Request = TypeVar("Request", Ask, Watch)


class Session:
    """An open session. Every method may raise ``ConnectionLost``, ``SessionEnded``, or the fatal ``ServerError``.

    Attributes:
        ready: how the server set the session up.
    """

    def __init__(self, socket: ClientConnection, codec: Codec[ServerMessage], ready: Ready) -> None:
        self.ready = ready
        self._socket, self._codec = socket, codec
        self._outgoing = Outgoing(ready)
        self._inbox = InterimsDroppedFirst(INBOX_MESSAGES)
        self._replies: dict[str, Reply] = {}
        self._numbers = itertools.count(1)
        self._sending = asyncio.Lock()  # one caller at a time assigns offsets
        self._changed = asyncio.Condition()  # notified after every message, and when the session is over
        self._over: Af3StreamError | None = None

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
    def lag_s(self) -> float:
        """Seconds of audio sent and not yet processed."""
        return (self.sent - self.processed) / self.ready.rate

    async def send(self, pcm: bytes) -> None:
        """Send audio in the session's format, any whole number of sample frames.

        Waits while the server is more than its credit behind. Audio that the server refuses is declared lost with the
        next call, so that the timeline goes on; the refusal itself is among the messages.

        Raises:
            ValueError: for a part of a sample frame.
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
            ConnectionLost: when the server went away.
            ReaderTooSlow: when messages other than interims could not be kept.
        """
        while (message := await self.next_message()) is not None:
            yield message

    async def next_message(self) -> ServerMessage | None:
        """The next of :meth:`messages`, or ``None`` once the session has ended; raises what they raise."""
        try:
            await self._until(lambda: self._inbox.readable)
        except SessionEnded:
            return None
        return self._inbox.take()

    async def ask(self, text: str, *, last_s: float | None = None, max_tokens: int | None = None) -> Answer:
        """Ask about what was heard, and wait for the whole answer. A cancelled call cancels the question.

        Args:
            last_s: hear only the windows that reach into the last so many seconds; by default all within the horizon.
            max_tokens: bounds the answer; by default as the server is configured.

        Raises:
            ValueError: for a ``last_s`` or ``max_tokens`` that is not positive.
            ServerError: when the question is refused.
        """
        stream = self.ask_stream(text, last_s=last_s, max_tokens=max_tokens)
        try:
            return await stream.answer()
        except asyncio.CancelledError:
            with suppress(Af3StreamError):
                await stream.cancel()
            raise

    def ask_stream(self, text: str, *, last_s: float | None = None, max_tokens: int | None = None) -> AnswerStream:
        """As :meth:`ask`, but the answer piece by piece: ``async for piece in session.ask_stream(text)``."""
        scope = None if last_s is None else Scope(last_s)
        return AnswerStream(self, _valid(Ask(self._name("q"), text, scope, max_tokens)))

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
            await self._mend()
            await self._say(Flush(name))
        return await self._settled(reply, Flushed)

    async def end(self) -> Ended:
        """Declare the audio complete; returns when every final caption, answer and watch has arrived.

        Raises:
            ServerError: when the server counts other audio than was sent.
        """
        reply = self._expect(END_REF)
        async with self._sending:
            await self._mend()
            await self._say(End(self.sent))
        return await self._settled(reply, Ended)

    async def read_socket(self) -> None:
        """Take in what the server sends until the connection is gone. :func:`~af3stream.client.connect` runs it."""
        try:
            while True:
                message = self._codec.decode(await self._socket.recv())
                async with self._changed:
                    self._receive(message)
                    self._changed.notify_all()
        except BadMessage as error:
            over = ConnectionLost(f"the server sent something that is no message of {self._codec.subprotocol}: {error}")
        except ConnectionClosed as closed:
            over = ConnectionLost(why_closed(closed))
        await self.close(over)

    async def close(self, reason: Af3StreamError) -> None:
        """End every wait with ``reason``, unless the session is over already."""
        async with self._changed:
            self._over = self._over or reason
            self._changed.notify_all()

    def _receive(self, message: ServerMessage) -> None:
        match message:
            case Ack():
                self._outgoing.acknowledged(message)
            case AnswerDelta() if message.id in self._replies:
                self._replies[message.id].unread += message.text
            case Answer() | Flushed():
                self._settle(message.id, message)
            case Ended():
                self._settle(END_REF, message)
                self._over = SessionEnded("the session has ended")
            case Error():
                self._refused(message)
                if message.fatal:
                    return
        self._inbox.put(message)

    def _refused(self, error: Error) -> None:
        self._settle(END_REF if error.code == "bad_end" else error.ref, error)
        if error.fatal:
            self._over = self._over or ServerError(error)
        else:
            self._outgoing.refused(error)

    def _settle(self, ref: str | None, outcome: Answer | Flushed | Ended | Error) -> None:
        if ref is not None and (reply := self._replies.pop(ref, None)):
            reply.outcome = outcome

    async def _advance(self, frames: int, pcm: bytes | None) -> None:
        """Send the next ``frames`` once there is credit for them; without ``pcm``, as lost."""
        await self._until(lambda: self._outgoing.has_credit(frames))
        await self._mend()
        offset = self._outgoing.advance(frames)
        await self._say(Gap(offset, frames) if pcm is None else Audio(offset, pcm))

    async def _mend(self) -> None:
        if gap := self._outgoing.mend():
            await self._say(gap)

    async def _say(self, message: ClientMessage) -> None:
        if self._over:
            raise self._over
        try:
            await self._socket.send(self._codec.encode(message))
        except ConnectionClosed:
            await self._until(lambda: False)  # what ended the session may still be on its way through the reader

    async def _until(self, done: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: done() or self._over is not None)
            if self._over and not done():
                raise self._over

    async def _settled(self, reply: Reply, kind: type[Outcome]) -> Outcome:
        await self._until(lambda: reply.outcome is not None)
        if isinstance(reply.outcome, Error):
            raise ServerError(reply.outcome)
        assert isinstance(reply.outcome, kind)
        return reply.outcome

    def _expect(self, ref: str) -> Reply:
        return self._replies.setdefault(ref, Reply())

    def _name(self, kind: str) -> str:
        return f"{kind}{next(self._numbers)}"


def _valid(request: Request) -> Request:
    """The request, unless it breaks a bound: the server cannot tie its refusal of such a message to an id."""
    try:
        return msgspec.convert(msgspec.to_builtins(request), type(request))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def why_closed(closed: ConnectionClosed) -> str:
    """How a connection ended, as a clause."""
    if closed.rcvd is None:
        return "the connection to the server was lost"
    reason = f": {closed.rcvd.reason}" if closed.rcvd.reason else ""
    return f"the server closed the connection with code {closed.rcvd.code}{reason}"
