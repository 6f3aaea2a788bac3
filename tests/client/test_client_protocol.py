"""A session over connections that break anywhere, against a server that forgets what is not durable; no socket."""

from __future__ import annotations

from collections import deque
from itertools import count

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.client.client_protocol import ClientProtocol
from af3stream.client.errors import ServerError
from af3stream.client.outgoing import END_REF
from af3stream.client.replay_buffer import Memory
from af3stream.protocol import messages as m
from tests.client.lasting import FRAME_BYTES, Lasting
from tests.client.scripted_server import READY, answer, ended, final

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "gap", "ask", "flush", "watch", "unwatch", "cut", "crash", "stillborn", "refuse", "work"]
            + ["say", "deliver", "hear"] * 4
        ),
        st.integers(1, 90),
    ),
    min_size=60,
    max_size=150,
)


class Network:
    """A client and a server with a wire between them, moved one step at a time."""

    def __init__(self) -> None:
        self.server = Lasting()
        start = m.Start()
        ready, *_ = self.server.start(start)
        assert isinstance(ready, m.Ready)
        self.client = ClientProtocol(start, ready, Memory())
        self.up: deque[m.ClientMessage] = deque()
        self.down: deque[m.ServerMessage] = deque()
        self.sent = bytearray()
        self.declared = bytearray()
        self.asked: dict[str, str] = {}
        self.watched: list[str] = []
        self.refused = False
        self._samples, self._names = count(1), count(1)

    def step(self, step: str, size: int) -> None:
        outgoing = self.client.outgoing
        match step:
            case "send" | "gap" if outgoing.has_credit(size):
                pcm = b"".join((next(self._samples) % 65_536).to_bytes(FRAME_BYTES, "big") for _ in range(size))
                lost = step == "gap"
                outgoing.append(size, None if lost else pcm)
                self.sent += bytes(len(pcm)) if lost else pcm
                self.declared += bytes([lost]) * size
            case "ask":
                name = f"q{next(self._names)}"
                self.asked[name] = f"Question {name}?"
                self.client.expect(name)
                outgoing.request(m.Ask(name, self.asked[name]))
            case "flush":
                name = f"f{next(self._names)}"
                self.client.expect(name)
                outgoing.request(m.Flush(name))
            case "watch":
                self.watched.append(f"w{next(self._names)}")
                outgoing.request(m.Watch(self.watched[-1], "?"))
            case "unwatch" if self.watched:
                outgoing.request(m.Unwatch(self.watched.pop()))
            case "say" if outgoing.has_next:
                self.up.append(outgoing.next())
            case "deliver" if self.up:
                self.down += self.server.receive(self.up.popleft())
            case "refuse" if self.up and isinstance(self.up[0], m.Audio):
                self.refused = True
                self.up.popleft()
                self.down += self.server.refuse()
            case "work":
                self.down += self.server.work(self.server.durable + size, self.server.processed + size // 2)
            case "hear" if self.down:
                self.client.receive(self.down.popleft())
            case "cut" | "crash" | "stillborn":
                self.cut(crash=step == "crash", stillborn=step == "stillborn")

    def cut(self, *, crash: bool, stillborn: bool) -> None:
        """The connection breaks, with all that is on the way, and another one takes its place."""
        self.up.clear()
        self.down.clear()
        if crash:
            self.server.crash()
        self.client.cut()
        if stillborn:  # the server greets, and the client never hears of it
            self.server.start(self.client.resuming())
        ready, *missed = self.server.start(self.client.resuming())
        assert isinstance(ready, m.Ready)
        self.client.resumed(ready)
        self.down += missed

    def finish(self) -> None:
        """The client ends the session, and nothing breaks any more."""
        self.client.expect(END_REF)
        self.client.outgoing.request(m.End(self.client.outgoing.sent))
        while not self.client.over:
            for step in ("say", "deliver", "work", "hear", "hear", "hear"):
                self.step(step, 10**6)

    def read(self) -> list[m.ServerMessage]:
        """What the client's caller reads."""
        messages = []
        while self.client.inbox.readable:
            messages.append(self.client.inbox.take())
        return messages


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_breaks_everything_arrives_once_and_in_order(steps: list[tuple[str, int]]):
    network = Network()
    for step, size in steps:
        network.step(step, size)
    network.finish()
    server = network.server
    assert len(server.pcm) == len(network.sent)
    if not network.refused:
        assert (server.pcm, server.lost) == (network.sent, network.declared)
    for frame in range(server.received):  # what was refused is lost, and nothing else is wrong
        at = slice(frame * FRAME_BYTES, (frame + 1) * FRAME_BYTES)
        assert server.lost[frame] or (server.pcm[at] == network.sent[at] and not network.declared[frame])
    read = network.read()
    numbers = [message.event for message in read if isinstance(message, m.Caption | m.Answer)]
    assert numbers == list(range(1, len(server.events) + 1))
    answers = [(message.id, message.text) for message in read if isinstance(message, m.Answer)]
    assert sorted(answers) == sorted(network.asked.items())
    assert set(server.watches) == set(network.watched)


def opened(**changes: object) -> ClientProtocol:
    ready = {"resume": "t1", "durable": 0, "credit_s": 1.0} | changes
    return ClientProtocol(m.Start(interims=False), msgspec.structs.replace(READY, **ready), Memory())


def again(**changes: object) -> m.Ready:
    return msgspec.structs.replace(READY, **{"resume": "t2", "durable": 0, "credit_s": 1.0} | changes)


def say_all(session: ClientProtocol) -> list[m.ClientMessage]:
    said = []
    while session.outgoing.has_next:
        said.append(session.outgoing.next())
    return said


def test_another_connection_begins_with_what_the_client_has():
    session = opened()
    session.outgoing.append(100, bytes(200))
    say_all(session)
    session.receive(m.Ack(100, 0, 60))
    session.receive(msgspec.structs.replace(final("Yes.", 0, 1), event=7))
    session.cut()
    assert session.resuming() == m.Start(interims=False, resume="t1", last_event=7, durable=60)
    session.resumed(again(received=80, durable=60))
    assert session.resuming().resume == "t2"
    assert say_all(session) == [m.Audio(80, bytes(40))]


def test_events_that_never_came_are_counted():
    session = opened()
    for event in (1, 2, 2, 5, 3, 6):  # 2 and 3 come again, as after a lost connection
        session.receive(msgspec.structs.replace(final("Yes.", 0, 1), event=event))
    assert session.missed == 2


def test_requests_are_said_again_in_their_places_between_the_audio():
    session = opened()
    outgoing = session.outgoing
    outgoing.request(m.Watch("w1", "Loud?"))
    outgoing.append(10, bytes(20))
    for name in ("q1", "q2"):
        session.expect(name)
        outgoing.request(m.Ask(name, "What?"))
    outgoing.append(10, None)
    outgoing.request(m.Flush("f3"))
    outgoing.append(10, bytes(20))
    before = say_all(session)
    session.receive(answer("q1", "That."))
    session.cut()
    outgoing.request(m.Unwatch("w1"))
    outgoing.request(m.End(30))
    session.resumed(again(received=5))
    assert say_all(session) == [
        m.Audio(5, bytes(10)),
        m.Ask("q2", "What?"),
        m.Gap(10, 10),
        m.Flush("f3"),
        m.Audio(20, bytes(20)),
        m.Unwatch("w1"),
        m.End(30),
    ]
    assert before[:2] == [m.Watch("w1", "Loud?"), m.Audio(0, bytes(20))]


def test_the_newest_instructions_are_said_on_every_connection():
    session = opened()
    session.outgoing.request(m.Instruct("Be brief."))
    session.outgoing.request(m.Instruct("Rhyme."))
    session.outgoing.append(10, bytes(20))
    assert say_all(session) == [m.Instruct("Rhyme."), m.Audio(0, bytes(20))]
    session.receive(m.Ack(10, 10, 10))
    session.cut()
    session.resumed(again(received=10, durable=10))
    assert say_all(session) == [m.Instruct("Rhyme.")]


def test_what_is_said_again_is_within_the_credit_of_then():
    session = opened()
    session.outgoing.append(16_000, bytes(32_000))
    say_all(session)
    session.receive(m.Ack(16_000, 9_000, 9_000))
    session.outgoing.append(9_000, bytes(18_000))
    session.cut()
    session.resumed(again(received=9_000, processed=1_000, durable=9_000))  # a crash took work, and no audio
    assert say_all(session) == [m.Audio(9_000, bytes(16_000))]
    session.receive(m.Ack(17_000, 9_000, 9_000))
    assert say_all(session) == [m.Audio(17_000, bytes(16_000))]


@pytest.mark.parametrize(
    ("received", "session_id", "code"), [(59, "s1", "data_loss"), (101, "s1", "data_loss"), (80, "other", "no_session")]
)
def test_a_server_that_would_go_on_with_something_else_is_refused(received: int, session_id: str, code: str):
    session = opened()
    session.outgoing.append(100, bytes(200))
    say_all(session)
    session.receive(m.Ack(100, 0, 60))
    session.cut()
    with pytest.raises(ServerError) as raised:
        session.resumed(again(received=received, session=session_id, durable=received))
    assert (raised.value.error.code, raised.value.error.retryable) == (code, False)


def test_without_a_journal_what_was_received_is_not_kept():
    session = opened(durable=None)
    session.outgoing.append(100, bytes(200))
    say_all(session)
    session.receive(m.Ack(70, 0))
    assert session.outgoing.durable == 70
    session.cut()
    session.resumed(again(received=70, durable=None))
    assert say_all(session) == [m.Audio(70, bytes(60))]


def test_a_server_that_keeps_no_sessions_costs_no_memory():
    session = opened(resume="", durable=None)
    for _ in range(10):
        session.outgoing.append(100, bytes(200))
        session.outgoing.request(m.Flush("f1"))
        say_all(session)
    assert session.outgoing._kept.begin == 1_000
    assert session.outgoing._requests == []
    assert not session.resumable


@pytest.mark.parametrize(
    ("pieces", "whole", "rest"),
    [("Half ", "Half a loaf.", "a loaf."), ("Half ", "All of it.", "\nAll of it."), ("", "All of it.", "All of it.")],
)
def test_pieces_that_may_have_a_hole_are_not_given(pieces: str, whole: str, rest: str):
    session = opened()
    reply = session.expect("q1")
    session.outgoing.request(m.Ask("q1", "What?"))
    say_all(session)
    if pieces:
        session.receive(m.AnswerDelta("q1", pieces))
    session.cut()
    session.resumed(again())
    session.receive(m.AnswerDelta("q1", "oaf"))
    session.receive(answer("q1", whole))
    session.receive(answer("q1", whole))
    assert reply.unread == pieces + rest
    assert sum(isinstance(message, m.Answer) for message in inbox(session)) == 1


def inbox(session: ClientProtocol) -> list[m.ServerMessage]:
    read = []
    while session.inbox.readable:
        read.append(session.inbox.take())
    return read


def test_an_event_that_comes_again_is_not_read_again():
    session = opened()
    events = [msgspec.structs.replace(final(str(number), number, number + 1), event=number) for number in (1, 2, 3)]
    for event in (*events[:2], *events):
        session.receive(event)
    assert inbox(session) == events


def test_a_watch_that_fails_once_stands_and_one_that_is_refused_does_not():
    session = opened()
    for name in ("w1", "w2"):
        session.outgoing.request(m.Watch(name, "?"))
    say_all(session)
    for code, name in (("engine_failed", "w1"), ("query_limit", "w2")):
        session.receive(m.Error(code, "no", fatal=False, retryable=True, ref=name))
    session.cut()
    session.resumed(again())
    assert say_all(session) == [m.Watch("w1", "?")]


@pytest.mark.parametrize(
    ("resume", "retryable", "over"), [("t1", True, False), ("t1", False, True), ("", True, True), ("", False, True)]
)
def test_a_fatal_refusal_ends_the_session_unless_another_connection_may_help(resume, retryable, over):
    session = opened(resume=resume)
    session.receive(m.Error("slow_consumer", "no", fatal=True, retryable=retryable))
    assert (session.over is not None, session.parting is None) == (over, over)


def test_after_the_end_nothing_follows():
    session = opened()
    session.receive(ended(0))
    assert session.over
    assert inbox(session) == [ended(0)]


def test_a_flush_whose_reply_went_to_a_lost_connection_is_settled_by_the_end():
    client = ClientProtocol(m.Start(), msgspec.structs.replace(READY, resume="t"), Memory())
    flushed, over = client.expect("f1"), client.expect(END_REF)
    client.outgoing.request(m.Flush("f1"))
    client.outgoing.request(m.End(0))
    client.cut()
    client.resumed(msgspec.structs.replace(READY, resume="u"))
    client.receive(ended(0))
    assert (flushed.outcome, over.outcome) == (m.Flushed("f1", 0), ended(0))
