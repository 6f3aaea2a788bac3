"""A server's side of a session that outlives its connections: a model without a socket, and a script around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import msgspec

from af3stream.protocol import messages as m
from tests.client.scripted_server import READY, Peer, Script, answer, ended

RATE, FRAME_BYTES = 16_000, 2


@dataclass
class Lasting:
    """What the server knows of the session. A crash takes what is not durable, and every request without its reply.

    A client that sends audio out of place, beyond its credit, or with a token that is not valid fails an assertion.
    """

    credit: int = 160  # sample frames
    pcm: bytearray = field(default_factory=bytearray)
    lost: bytearray = field(default_factory=bytearray)  # one byte for each sample frame: whether it was declared lost
    durable: int = 0
    processed: int = 0
    events: list[m.Caption | m.Answer | m.WatchHit] = field(default_factory=list)
    watches: dict[str, m.Watch] = field(default_factory=dict)
    waiting: list[m.Ask | m.Flush | m.End] = field(default_factory=list)
    tokens: list[str] = field(
        default_factory=list
    )  # the newest last; the one before it counts until the client said something
    starts: list[m.Start] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @property
    def received(self) -> int:
        return len(self.lost)

    def start(self, start: m.Start) -> list[m.ServerMessage]:
        """``ready``, and the events that the client has not heard."""
        self.starts.append(start)
        if start.resume is None:
            assert not self.tokens
            self.tokens = [f"token-{next(self._numbers)}"]
        else:
            assert start.resume in self.tokens
            assert start.durable <= self.durable
            self.tokens = [start.resume, f"token-{next(self._numbers)}"]
        ready = msgspec.structs.replace(
            READY,
            credit_s=self.credit / RATE,
            resume=self.tokens[-1],
            received=self.received,
            processed=self.processed,
            durable=self.durable,
            last_event=len(self.events),
        )
        return [ready, *self.events[start.last_event :]]

    def receive(self, message: m.ClientMessage) -> list[m.ServerMessage]:
        self.tokens = self.tokens[-1:]
        match message:
            case m.Audio() | m.Gap() if message.offset != self.received:
                return [self._refused("offset_gap", "not the next sample frame")]
            case m.Audio():
                assert self.received + len(message.pcm) // FRAME_BYTES - self.processed <= self.credit
                self.pcm += message.pcm
                self.lost += bytes(len(message.pcm) // FRAME_BYTES)
            case m.Gap():
                self.pcm += bytes(message.frames * FRAME_BYTES)
                self.lost += b"\1" * message.frames
            case m.Watch():
                self.watches[message.id] = message
            case m.Unwatch():
                self.watches.pop(message.id, None)
            case m.Ask() if self._answered(message.id) or message in self.waiting:
                pass
            case m.Ask() | m.Flush() | m.End():
                self.waiting.append(message)
        return []

    def refuse(self) -> list[m.ServerMessage]:
        """Not to take the next audio."""
        return [self._refused("bad_audio", "not finite")]

    def work(self, durable: int, processed: int) -> list[m.ServerMessage]:
        """Come this far, and reply to everything that waits; a final caption for each step of what is processed."""
        self.durable = max(self.durable, min(durable, self.received))
        told: list[m.ServerMessage] = []
        if (upto := max(self.processed, min(processed, self.durable))) > self.processed:
            told.append(self._kept(m.Caption(len(self.events), "", self.processed / RATE, upto / RATE, final=True)))
            self.processed = upto
        told.append(m.Ack(self.received, self.processed, self.durable))
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            match request:
                case m.Ask():
                    told += [m.AnswerDelta(request.id, request.text), self._kept(answer(request.id, request.text))]
                case m.Flush():
                    told.append(m.Flushed(request.id, self.received))
                case m.End():
                    assert request.total == self.received
                    self.durable = self.processed = self.received
                    told.append(ended(request.total))
        return told

    def crash(self) -> None:
        del self.pcm[self.durable * FRAME_BYTES :], self.lost[self.durable :]
        self.waiting.clear()

    def _answered(self, question: str) -> bool:
        return any(isinstance(event, m.Answer) and event.id == question for event in self.events)

    def _kept(self, message: m.Caption | m.Answer) -> m.Caption | m.Answer:
        numbered = msgspec.structs.replace(message, event=len(self.events) + 1)
        self.events.append(numbered)
        return numbered

    def _refused(self, code: str, why: str) -> m.Error:
        return m.Error(code, why, fatal=False, retryable=False, expected_offset=self.received)


async def greet(peer: Peer, session: Lasting) -> None:
    """Begin the session, or go on with it."""
    start = await peer.receive()
    assert isinstance(start, m.Start)
    await peer.send(*session.start(start))


def lasting(session: Lasting, cut: Callable[[], bool] = lambda: False, *, crashes: bool = False) -> Script:
    """Works on everything at once; breaks the connection instead of a reply wherever ``cut`` says so."""

    async def script(peer: Peer) -> None:
        await greet(peer, session)
        told: list[m.ServerMessage] = []
        while True:
            told += session.work(session.received, session.received)
            await peer.send(*told)
            if any(isinstance(message, m.Ended) for message in told):
                return
            told = session.receive(await peer.receive())
            if cut():
                if crashes:
                    session.crash()
                peer.socket.transport.abort()
                return

    return script
