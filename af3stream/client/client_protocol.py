"""Implement the client's side of the protocol: received events, pending replies, resuming. No clock, no socket."""

from __future__ import annotations

from typing import Final

import msgspec

from af3stream.client.errors import ServerError, SessionEnded, mismatch
from af3stream.client.inbox import InterimsDroppedFirst
from af3stream.client.outgoing import END_REF, Outgoing
from af3stream.client.replay_buffer import Store
from af3stream.client.reply import Reply
from af3stream.errors import Af3StreamError
from af3stream.protocol.messages import (
    Ack,
    Answer,
    AnswerDelta,
    Caption,
    Ended,
    Error,
    Flushed,
    Ready,
    ServerMessage,
    SpeakerNamed,
    Start,
    WatchHit,
)

INBOX_MESSAGES: Final = 4_096
ENGINE_TROUBLE: Final = ("engine_failed", "engine_timeout", "engine_restart")  # one job failed; a watch continues


class ClientProtocol:
    """Track one session over several connections: push in received messages, pull outgoing ones.

    Attributes:
        ready: the ``ready`` message of the newest connection.
        outgoing: the messages to send.
        inbox: the messages that the caller has not read.
        over: the error that ended the session; ``None`` while it goes on.
        parting: why the server is about to close the connection, if the session can be resumed after it.
        missed: the count of numbered events that never arrived; normally 0.
    """

    def __init__(self, start: Start, ready: Ready, store: Store) -> None:
        self.ready = ready
        self.outgoing = Outgoing(ready, store)
        self.inbox = InterimsDroppedFirst(INBOX_MESSAGES)
        self.over: Af3StreamError | None = None
        self.parting: Error | None = None
        self.missed = 0
        self._start = start
        self._last_event = start.last_event
        self._replies: dict[str, Reply] = {}

    @property
    def resumable(self) -> bool:
        """Whether another connection can resume the session."""
        return bool(self.ready.resume)

    @property
    def progress(self) -> tuple[int, ...]:
        """The durable and processed offsets, and the newest event number; they never decrease."""
        return self.outgoing.durable, self.outgoing.processed, self._last_event

    def expect(self, ref: str) -> Reply:
        """Return the reply to the request with this id; it fills as messages arrive."""
        return self._replies.setdefault(ref, Reply())

    def receive(self, message: ServerMessage) -> None:
        """Process one message of the server. Ignore an event that was received before."""
        if self._known(message):
            return
        match message:
            case Ack():
                self.outgoing.acknowledged(message)
            case AnswerDelta():
                if message.id not in self._replies or not self._replies[message.id].add(message.text):
                    return
            case Answer() if message.id not in self._replies:
                return  # the question was sent again while its answer was on the way
            case Answer() | Flushed():
                self._settle(message.id, message)
            case Ended():
                for flush in self.outgoing.flushes:  # their replies were sent on a lost connection
                    self._settle(flush, Flushed(flush, message.total))
                self._settle(END_REF, message)
                self.over = SessionEnded("the session has ended")
            case Error():
                self._refused(message)
                if message.fatal:
                    return
        self.inbox.put(message)

    def cut(self) -> None:
        """Note that the connection is lost."""
        for reply in self._replies.values():
            reply.interrupted = True

    def resuming(self) -> Start:
        """Return the ``start`` message that resumes the session."""
        return msgspec.structs.replace(
            self._start, resume=self.ready.resume, last_event=self._last_event, durable=self.outgoing.durable
        )

    def resumed(self, ready: Ready) -> None:
        """Process the ``ready`` message that answers ``resuming``.

        Raises:
            ServerError: if it names another session, or if audio is missing.
        """
        if ready.session != self.ready.session:
            raise mismatch("no_session", f"session {self.ready.session} was resumed, and {ready.session} came")
        self.outgoing.resumed(ready)
        self.ready, self.parting = ready, None

    def _known(self, message: ServerMessage) -> bool:
        event = message.event if isinstance(message, Caption | Answer | WatchHit | SpeakerNamed) else None
        if event is not None:
            if event <= self._last_event:
                return True
            self.missed += event - self._last_event - 1
            self._last_event = event
        return False

    def _refused(self, error: Error) -> None:
        ref = END_REF if error.code == "bad_end" else error.ref
        if ref in self._replies or error.code not in ENGINE_TROUBLE:  # a watch continues after a failure
            self._settle(ref, error)
        if not error.fatal:
            self.outgoing.refused(error)
        elif self.resumable and error.retryable:
            self.parting = error
        else:
            self.over = self.over or ServerError(error)

    def _settle(self, ref: str | None, outcome: Answer | Flushed | Ended | Error) -> None:
        if ref is not None:
            self.outgoing.settled(ref)
            if reply := self._replies.pop(ref, None):
                reply.settle(outcome)
