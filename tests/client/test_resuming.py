"""A session whose connections are lost, over real sockets: its user notices nothing, or is told why."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from http import HTTPStatus
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.client import ConnectionLost, ResumeToken, ServerError, Session, State, connect
from af3stream.client import connecting as connecting_module
from af3stream.client import transport as line_module
from af3stream.client.backoff import Backoff
from af3stream.protocol import messages as m
from af3stream.protocol.features import FEATURES
from tests.client.lasting import Lasting, greet, lasting
from tests.client.scripted_server import Peer, Script, serving

BLOCK = 1_000  # sample frames
PCM = bytes(index * 31 % 251 for index in range(40 * BLOCK * 2))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch):
    """Chance makes every wait short."""
    monkeypatch.setattr(line_module, "random", lambda: 0.005)


async def rest(session: Session) -> list[m.ServerMessage]:
    return [message async for message in session]


def cutting(places: set[int]):
    """Cut after so many messages, counted over all connections."""
    heard = iter(range(1, 10**6))
    return lambda: next(heard) in places


async def conversation(session: Session, blocks: int) -> list[m.ServerMessage]:
    """Audio with a gap, two questions and a watch, to the end; returns what is read."""
    reading = asyncio.create_task(rest(session))
    await session.watch("Loud?")
    asking = []
    for index in range(blocks):
        if index == 2:
            await session.gap(BLOCK)
        await session.send(PCM[index * BLOCK * 2 : (index + 1) * BLOCK * 2])
        if index in (1, 5):
            asking.append(asyncio.create_task(session.ask(f"Question {index}?")))
    answers = await asyncio.gather(*asking)
    assert [answer.text for answer in answers] == [f"Question {index}?" for index in (1, 5) if index < blocks]
    assert (await session.flush()).received == session.sent
    assert (await session.end()).total == session.sent
    return await reading


def check(server: Lasting, read: list[m.ServerMessage], blocks: int) -> None:
    """All audio is there, bit for bit, and every event was read, once and in order."""
    assert server.pcm == PCM[: 2 * 2 * BLOCK] + bytes(2 * BLOCK) + PCM[2 * 2 * BLOCK : blocks * 2 * BLOCK]
    assert server.lost == bytes(2 * BLOCK) + b"\1" * BLOCK + bytes((blocks - 2) * BLOCK)
    assert [message for message in read if isinstance(message, m.Caption | m.Answer)] == server.events
    assert not any(isinstance(message, m.Ready | m.Error) for message in read)
    assert isinstance(read[-1], m.Ended)
    assert list(server.watches) == ["w1"]


@pytest.mark.parametrize("spooled", [False, True])
@settings(max_examples=40, deadline=None)
@given(places=st.sets(st.integers(1, 50), max_size=8), crashes=st.booleans())
def test_audio_and_answers_survive_cuts_anywhere(spooled: bool, places: set[int], crashes: bool, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() if spooled else None

    async def run() -> None:
        model = Lasting(credit=3 * BLOCK)
        with patch.object(line_module, "random", lambda: 0.005):
            async with serving(lasting(model, cutting(places), crashes=crashes)) as server:
                async with asyncio.timeout(60), connect(server.url, spool=folder) as session:
                    read = await conversation(session, 12)
                check(model, read, 12)
                assert len(server.peers) == 1 + len([start for start in model.starts if start.resume])

    asyncio.run(run())


async def test_a_server_that_is_restarted_on_its_port_is_found_again():
    model = Lasting(credit=10 * BLOCK)
    states: list[State] = []
    back = asyncio.Event()

    def on_state(state: State) -> None:
        states.append(state)
        if state == "open":
            back.set()

    async with AsyncExitStack() as first, AsyncExitStack() as second:
        server = await first.enter_async_context(serving(lasting(model)))
        async with connect(server.url, on_state=on_state) as session:
            await session.send(PCM[: 2 * BLOCK])
            await session.flush()
            assert session.state == "open"
            await first.aclose()
            await session.send(PCM[2 * BLOCK : 4 * BLOCK])  # kept: nobody is there
            assert (session.state, session.sent, model.received) == ("reconnecting", 2 * BLOCK, BLOCK)
            await second.enter_async_context(serving(lasting(model), port=server.port))
            await back.wait()
            await session.send(PCM[4 * BLOCK : 6 * BLOCK])
            assert (await session.end()).total == 3 * BLOCK
            assert session.state == "over"
        await asyncio.sleep(0)
    assert states == ["reconnecting", "open", "over"]
    assert model.pcm == PCM[: 6 * BLOCK]
    assert model.starts[1] == m.Start(resume="token-1", last_event=1, durable=BLOCK, features=FEATURES)


async def test_another_process_goes_on_with_a_session():
    model = Lasting(credit=10 * BLOCK)
    async with serving(lasting(model)) as server:
        async with connect(server.url) as session:
            await session.send(PCM[: 2 * BLOCK])
            assert (await session.ask("First?")).text == "First?"
            known = ResumeToken(session.ready.resume, len(model.events) - 1)
        async with connect(server.url, resume=known) as session:
            assert (session.sent, session.received) == (BLOCK, BLOCK)
            reading = asyncio.create_task(rest(session))
            await session.send(PCM[2 * BLOCK : 4 * BLOCK])
            assert (await session.ask("Second?")).text == "Second?"  # under a name that the first process had not used
            assert (await session.end()).total == 2 * BLOCK
            read = await reading
    assert model.pcm == PCM[: 4 * BLOCK]
    assert model.starts[1] == m.Start(resume=known.token, last_event=known.last_event, features=FEATURES)
    answers = [message.text for message in read if isinstance(message, m.Answer)]
    assert answers == ["Second?"]


async def test_while_reconnecting_audio_is_kept_up_to_the_credit():
    model = Lasting(credit=4 * BLOCK)
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        server = await first.enter_async_context(serving(lasting(model)))
        async with connect(server.url) as session:
            await session.flush()
            await first.aclose()
            await session.send(PCM[: 8 * BLOCK])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.gap(1), 0.05)
            assert (session.state, session.sent) == ("reconnecting", 4 * BLOCK)
            sending = asyncio.create_task(session.send(PCM[8 * BLOCK : 12 * BLOCK]))
            await second.enter_async_context(serving(lasting(model), port=server.port))
            await sending
            await session.end()
    assert model.pcm == PCM[: 12 * BLOCK]


def closing(code: int, error: m.Error | None = None) -> Script:
    """Greets, hears one message, and closes."""

    async def script(peer: Peer) -> None:
        await greet(peer, Lasting())
        await peer.receive()
        if error:
            await peer.send(error)
        await peer.socket.close(code, "why")

    return script


def one_after_another(*scripts: Script) -> Script:
    turns = iter(scripts)

    async def script(peer: Peer) -> None:
        await next(turns)(peer)

    return script


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4408, 4429])
async def test_a_close_that_is_temporary_is_followed_by_a_reconnect(code: int):
    model = Lasting(tokens=["token-1"])
    async with serving(one_after_another(closing(code), lasting(model))) as server, connect(server.url) as session:
        assert (await session.ask("Still there?")).text == "Still there?"
        assert (await session.end()).total == 0


@pytest.mark.parametrize("code", [1002, 1003, 1009, 4400, 4401, 4404, 4409, 4422, 4500])
async def test_a_close_that_is_final_ends_the_session(code: int):
    async with serving(closing(code)) as server, connect(server.url) as session:
        with pytest.raises(ConnectionLost, match=f"closed the connection with code {code}: why"):
            await session.ask("Still there?")
        assert session.state == "over"


@pytest.mark.parametrize("code", ["no_session", "data_loss", "superseded"])
async def test_a_fatal_refusal_ends_the_session(code: str):
    error = m.Error(code, "no", fatal=True, retryable=False)
    for script in (closing(4404, error), one_after_another(closing(1012), refusing(error))):
        async with serving(script) as server, connect(server.url) as session:
            with pytest.raises(ServerError, match=rf"no \({code}\)"):
                await session.ask("Still there?")
            with pytest.raises(ServerError, match=code):
                await rest(session)


def refusing(error: m.Error) -> Script:
    """Refuses the session."""

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.send(error)
        await peer.socket.close(1013)

    return script


async def test_a_server_that_lost_audio_is_not_gone_on_with():
    async def forgetful(peer: Peer) -> None:
        await peer.open(resume="token-2", durable=0)
        await peer.receive()

    model = Lasting(credit=3 * BLOCK)
    script = one_after_another(lasting(model, cutting({4})), forgetful)
    async with serving(script) as server, connect(server.url) as session:
        with pytest.raises(ServerError, match=r"kept from sample frame 9000 to 12000, and the server goes on at 0 "):
            await session.send(PCM)


async def test_a_waiting_time_is_kept_whoever_asks_for_it(monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    handshakes = 0

    class Hurried(Backoff):
        def next_delay_s(self, now: float, chance: float, retry_after_s: float = 0.0) -> float:
            waits.append(retry_after_s)
            return 0.0

    def refuse(connection, request):
        nonlocal handshakes
        handshakes += 1
        if handshakes in (2, 3):
            response = connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "")
            response.headers["Retry-After"] = str(handshakes)
            return response
        return None

    bye = m.Error("shutting_down", "no", fatal=True, retryable=True, retry_after_ms=1_500)
    full = m.Error("storage_full", "no", fatal=True, retryable=True, retry_after_ms=5_000)
    script = one_after_another(closing(1012, bye), refusing(full), lasting(Lasting(tokens=["token-1"])))
    monkeypatch.setattr(connecting_module, "Backoff", Hurried)
    async with serving(script, refuse=refuse) as server, connect(server.url) as session:
        assert (await session.ask("Still there?")).text == "Still there?"
    assert waits == [1.5, 2, 3, 5]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_that_is_no_longer_valid_ends_the_session(status: int):
    def refuse(connection, request):
        return connection.respond(HTTPStatus(status), "") if server.peers else None

    async with serving(closing(1012), refuse=refuse) as server, connect(server.url) as session:
        with pytest.raises(ServerError, match=f"HTTP {status} .not_admitted"):
            await session.ask("Still there?")


@pytest.mark.parametrize("reconnect_for", [0.0, 0.05])
async def test_a_server_that_stays_away_is_given_up(reconnect_for: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(line_module, "random", lambda: 0.1)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(lasting(Lasting())))
        async with connect(server.url, reconnect_for=reconnect_for) as session:
            await session.flush()
            await stack.aclose()
            with pytest.raises(ConnectionLost, match=f"; no other connection within {reconnect_for:g} s$"):
                await session.ask("Anyone?")
            with pytest.raises(ConnectionLost):
                await rest(session)


async def test_a_server_that_keeps_no_sessions_is_not_called_again():
    async def leaving(peer: Peer) -> None:
        await peer.open()
        await peer.socket.close(1012)

    states: list[State] = []
    async with serving(leaving) as server, connect(server.url, on_state=states.append) as session:
        with pytest.raises(ConnectionLost, match="code 1012"):
            await rest(session)
        assert len(server.peers) == 1
    assert states == ["over"]


async def test_the_block_is_left_at_once_while_reconnecting():
    lost = asyncio.Event()
    later = m.Error("storage_full", "no", fatal=True, retryable=True, retry_after_ms=60_000)
    async with serving(closing(1013, later)) as server:
        async with connect(server.url, on_state=lambda state: lost.set()) as session:
            await session.watch("Loud?")
            await lost.wait()
            assert session.state == "reconnecting"
            reading = asyncio.create_task(rest(session))
        assert await reading == []


async def test_an_answer_stream_goes_on_over_a_cut():
    async def half(peer: Peer) -> None:
        await greet(peer, Lasting())
        await peer.receive()
        await peer.send(m.AnswerDelta("q1", "What "))
        await peer.receive()
        peer.socket.transport.abort()

    script = one_after_another(half, lasting(Lasting(tokens=["token-1"])))
    async with serving(script) as server, connect(server.url) as session:
        stream = session.ask_stream("What was said?")
        assert await anext(stream) == "What "
        await session.unwatch("w0")  # the message after which the connection breaks
        assert [piece async for piece in stream] == ["was said?"]


async def test_unusual_callbacks_do_not_harm_the_session():
    def failing(state: State) -> None:
        raise RuntimeError(state)

    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    model = Lasting()
    async with serving(lasting(model, cutting({1}))) as server, connect(server.url, on_state=failing) as session:
        assert (await session.end()).total == 0
    assert [str(failure["exception"]) for failure in failures] == ["reconnecting", "open", "over"]
