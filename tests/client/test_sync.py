"""The client for programs without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from af3stream.client import NetworkError, ServerError, SessionEnded, State
from af3stream.client import transport as line_module
from af3stream.client.sync import connect
from af3stream.protocol.messages import Ack, Answer, AnswerDelta, Cancel, Caption, End, Ended, Error
from tests.client.lasting import Lasting, lasting
from tests.client.scripted_server import Peer, Script, Scripted, answer, converse, ended, polite, serving


@contextmanager
def serving_in_thread(script: Script) -> Iterator[Scripted]:
    started, stop = threading.Event(), threading.Event()
    running: list[Scripted] = []

    async def run() -> None:
        async with serving(script) as server:
            running.append(server)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(60)
    try:
        yield running[0]
    finally:
        stop.set()
        thread.join()


def test_the_same_session_without_an_event_loop():
    with serving_in_thread(polite) as server:
        with connect(server.url, token="t") as session:
            session.send(bytes(32_000))
            session.gap(8_000)
            assert session.flush().received == 24_000
            assert (session.sent, session.received, session.processed, session.ahead_s) == (24_000, 24_000, 24_000, 0)
            assert session.ask("What was said?") == answer("q2", "What was said?")
            assert "".join(session.ask_stream("Who spoke?")) == "Who spoke? "
            name = session.watch("Is it loud?")
            session.unwatch(name)
            assert session.end() == ended(24_000)
            kinds = [type(message) for message in session]
        assert (kinds[:2], kinds[-2:]) == ([Ack, Ack], [Caption, Ended])
        assert session.ready.server == "scripted 1"
        with pytest.raises(SessionEnded):
            session.flush()


def test_an_iterator_that_is_closed_early_cancels_the_question():
    async def patient(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(AnswerDelta("q1", "Well"))
        await converse(peer)

    with serving_in_thread(patient) as server:
        with connect(server.url) as session:
            pieces = session.ask_stream("Explain.")
            assert next(pieces) == "Well"
            pieces.close()
            session.end()
        assert server.heard[2:] == [Cancel("q1"), End(0)]


def test_a_reader_on_another_thread_ends_with_the_session():
    with serving_in_thread(polite) as server, ThreadPoolExecutor(1) as pool:
        with connect(server.url) as session:
            reading = pool.submit(list, iter(session))
        assert reading.result(5) == []


def test_a_cut_is_not_noticed_here_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(line_module, "random", lambda: 0.005)
    model = Lasting()
    states: list[State] = []
    cuts = iter([False, False, True])
    script = lasting(model, lambda: next(cuts, False))
    with serving_in_thread(script) as server:
        with connect(server.url, spool=tmp_path, reconnect_for=5, on_state=states.append) as session:
            for number in range(1, 5):
                session.send(bytes([number]) * 200)
            assert session.ask("What was said?").text == "What was said?"
            assert session.state == "open"
            assert session.end().total == 400
            kinds = [type(message) for message in session if not isinstance(message, Ack)]
        assert len(server.peers) == 2
    assert model.pcm == b"".join(bytes([number]) * 200 for number in range(1, 5))
    assert kinds == [Caption] * kinds.count(Caption) + [AnswerDelta, Answer, Ended]
    assert states == ["reconnecting", "open", "over"]


def test_errors_come_through():
    async def strict(peer: Peer) -> None:
        await peer.receive()
        await peer.send(Error("bad_format", "no", fatal=True, retryable=False))

    with serving_in_thread(strict) as server, pytest.raises(ServerError, match="bad_format"), connect(server.url):
        pass
    with pytest.raises(NetworkError, match="Connection refused"), connect(server.url):
        pass
