"""One conversation with the service, as its client sees it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from af3stream.client.errors import ConnectionLost, ServerError, SessionEnded
from af3stream.client.inbox import InterimsDroppedFirst
from af3stream.errors import Af3StreamError, BadMessage
from af3stream.protocol.codec import Codec
from af3stream.protocol.messages import (
    Ack,
    Answer,
    AnswerDelta,
    Ask,
    Audio,
    Cancel,
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
PIECE_S: Final = 1  # the most audio in one message
ENVELOPE_BYTES: Final = 256  # more than a message needs around its audio
SAMPLE_BYTES: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1}
END_REF: Final = "end"  # `end` has no id on the wire; its refusal is known by its code

Outcome = TypeVar("Outcome", Answer, Flushed, Ended)
Request = TypeVar("Request", Ask, Watch)


@dataclass(slots=True)
class _Reply:
    """What the server has said so far to one request."""

    unread: str = ""  # pieces of an answer that nobody has taken yet
    outcome: Answer | Flushed | Ended | Error | None = None


class Session:
    """An open session. Every method may raise ``ConnectionLost``, ``SessionEnded``, or the fatal ``ServerError``.

    Attributes:
        ready: how the server set the session up.
        sent: sample frames sent or declared lost.
        received: sample frames that the server says it has.
        processed: sample frames that the server says are captioned and encoded.
    """

    def __init__(self, socket: ClientConnection, codec: Codec[ServerMessage], ready: Ready) -> None:
        self.ready = ready
        self.sent = self.received = self.processed = 0
        self._socket, self._codec = socket, codec
        self._inbox = InterimsDroppedFirst(INBOX_MESSAGES)
        self._replies: dict[str, _Reply] = {}
        self._numbers = itertools.count(1)
        self._refused_from: int | None = None  # audio from here on did not arrive
        self._mended_to = 0  # below this offset, refused audio is already declared lost
        self._sending = asyncio.Lock()  # one caller at a time assigns offsets
        self._changed = asyncio.Condition()  # notified after every message, and when the session is over
        self._over: Af3StreamError | None = None
        self._frame_bytes = SAMPLE_BYTES[ready.format] * ready.channels
        self._credit_frames = int(ready.credit_s * ready.rate)
        base64_safe = (ready.max_frame_bytes - ENVELOPE_BYTES) * 3 // 4  # JSON spells 3 bytes as 4 characters
        by_size = base64_safe // self._frame_bytes
        self._piece_frames = max(1, min(PIECE_S * ready.rate, self._credit_frames, by_size))

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
        if len(pcm) % self._frame_bytes:
            raise ValueError(f"{len(pcm)} bytes are not a whole number of {self._frame_bytes}-byte sample frames")
        step = self._piece_frames * self._frame_bytes
        async with self._sending:
            for start in range(0, len(pcm), step):
                piece = pcm[start : start + step]
                await self._advance(len(piece) // self._frame_bytes, piece)

    async def gap(self, frames: int) -> None:
        """Declare ``frames`` sample frames lost; they count as silence, and against the credit.

        Raises:
            ValueError: for less than one frame.
        """
        if frames < 1:
            raise ValueError(f"a gap has at least one sample frame, not {frames}")
        async with self._sending:
            for start in range(0, frames, self._piece_frames):
                await self._advance(min(self._piece_frames, frames - start), None)

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
                self.received, self.processed = message.received, message.processed
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
        elif error.expected_offset is not None:
            self._refused_from = error.expected_offset

    def _settle(self, ref: str | None, outcome: Answer | Flushed | Ended | Error) -> None:
        if ref is not None and (reply := self._replies.pop(ref, None)):
            reply.outcome = outcome

    async def _advance(self, frames: int, pcm: bytes | None) -> None:
        """Send the next ``frames`` once there is credit for them; without ``pcm``, as lost."""
        await self._until(lambda: self.sent + frames - self.processed <= self._credit_frames)
        await self._mend()
        offset, self.sent = self.sent, self.sent + frames
        await self._say(Gap(offset, frames) if pcm is None else Audio(offset, pcm))

    async def _mend(self) -> None:
        """Declare lost what the server has refused; refusals of audio that was under way by then need no second gap."""
        refused_from, self._refused_from = self._refused_from, None
        if refused_from is not None and self._mended_to <= refused_from < self.sent:
            self._mended_to = self.sent
            await self._say(Gap(refused_from, self.sent - refused_from))

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

    async def _settled(self, reply: _Reply, kind: type[Outcome]) -> Outcome:
        await self._until(lambda: reply.outcome is not None)
        if isinstance(reply.outcome, Error):
            raise ServerError(reply.outcome)
        assert isinstance(reply.outcome, kind)
        return reply.outcome

    def _expect(self, ref: str) -> _Reply:
        return self._replies.setdefault(ref, _Reply())

    def _name(self, kind: str) -> str:
        return f"{kind}{next(self._numbers)}"


class AnswerStream:
    """An answer while it is generated. The question is asked by :meth:`start`, or by the first use of anything else.

    Attributes:
        id: the question's id, which its messages carry.
    """

    def __init__(self, session: Session, ask: Ask) -> None:
        self.id = ask.id
        self._session, self._ask = session, ask
        self._reply: _Reply | None = None

    async def start(self) -> None:
        """Ask now; does nothing when already asked."""
        if self._reply is None:
            self._reply = self._session._expect(self.id)
            await self._session._say(self._ask)

    async def answer(self) -> Answer:
        """The whole answer, when it is complete.

        Raises:
            ServerError: when the question is refused.
        """
        return await self._session._settled(await self._started(), Answer)

    async def cancel(self) -> None:
        """Stop the question; its answer is complete at what was generated by then. Does nothing after the answer."""
        if self._reply and self._reply.outcome is None and self._session._over is None:
            await self._session._say(Cancel(self.id))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        reply = await self._started()
        await self._session._until(lambda: bool(reply.unread) or reply.outcome is not None)
        if not reply.unread:
            await self._session._settled(reply, Answer)
            raise StopAsyncIteration
        piece, reply.unread = reply.unread, ""
        return piece

    async def _started(self) -> _Reply:
        await self.start()
        assert self._reply
        return self._reply


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
