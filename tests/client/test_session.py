"""The async client against a scripted server: offsets, credit, requests, refusals, the end."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from af3stream.client import ConnectionLost, ServerError, Session, SessionEnded, connect
from af3stream.client import client_protocol as dialogue_module
from af3stream.client.errors import ReaderTooSlow
from af3stream.protocol.codec import JSON, MSGPACK
from af3stream.protocol.features import FEATURES
from af3stream.protocol.messages import (
    Ack,
    AnswerDelta,
    Ask,
    Audio,
    Cancel,
    Caption,
    End,
    Ended,
    Error,
    Flush,
    Gap,
    Instruct,
    NameSpeaker,
    Scope,
    ServerMessage,
    Speech,
    Start,
    Unwatch,
    Watch,
)
from tests.client.scripted_server import Peer, answer, converse, ended, final, interim, polite, serving

SECOND = bytes(32_000)  # one second, pcm_s16le at 16 kHz


@pytest.fixture(autouse=True)
async def patience():
    async with asyncio.timeout(60):
        yield


async def rest(session: Session) -> list[ServerMessage]:
    return [message async for message in session]


def refusal(code: str, *, fatal: bool = False, ref: str | None = None, expected: int | None = None) -> Error:
    return Error(code, "no", fatal=fatal, retryable=False, ref=ref, expected_offset=expected)


@pytest.mark.parametrize("subprotocol", [MSGPACK, JSON])
async def test_a_session_sends_what_it_is_given_and_ends_with_its_ledger(subprotocol: str):
    async with serving(polite) as server:
        async with connect(server.url, subprotocol=subprotocol, mode="everything", interims=False) as session:
            assert session.ready.model == "none"
            await session.send(SECOND[:3_200])
            ledger = await session.end()
            messages = await rest(session)
        assert ledger.total == 1_600
        assert messages == [Ack(1_600, 1_600), final("Call me Ishmael.", 0.5, 1.5), ledger]
        assert server.heard == [
            Start("pcm_s16le", 16_000, 1, "everything", False, features=FEATURES),
            Audio(0, SECOND[:3_200]),
            End(1_600),
        ]


async def test_messages_of_a_type_that_the_client_does_not_know_are_ignored():
    async def newer(peer: Peer) -> None:
        await peer.open()
        mood = {"type": "mood", "calm": True}
        await peer.socket.send(msgspec.msgpack.encode(mood))
        await peer.send(Ack(5, 5))
        await peer.receive()

    async with serving(newer) as server, connect(server.url) as session:
        assert await anext(session) == Ack(5, 5)
        await session.send(SECOND)


@pytest.mark.parametrize(("event", "after"), [(None, "q1"), (7, 7)])
async def test_a_follow_up_names_the_answer_by_its_event_or_else_by_its_question(event: int | None, after: int | str):
    async def answering(peer: Peer) -> None:
        await peer.open()
        for number in range(4):
            ask = await peer.receive()
            assert isinstance(ask, Ask)
            await peer.send(msgspec.structs.replace(answer(ask.id, "So."), event=event and event + number))

    async with serving(answering) as server:
        async with connect(server.url) as session:
            first = await session.ask("What?")
            await session.ask("And then?", after=first)
            stream = session.ask_stream("Well?")
            await stream.start()
            async for _ in session.ask_stream("And?", after=stream):
                pass
        asked = [message.after for message in server.heard if isinstance(message, Ask)]
        assert asked == [None, after, None, "q3"]


async def test_a_server_without_follow_ups_is_sent_none():
    async def older(peer: Peer) -> None:
        await peer.open(features=())
        await peer.receive()

    async with serving(older) as server, connect(server.url) as session:
        with pytest.raises(ValueError, match="follow up"):
            await session.ask("And?", after="q1")
        await session.send(SECOND)


async def test_offsets_count_sample_frames_and_messages_hold_a_second_at_most():
    async with serving(polite) as server:
        async with connect(server.url, format="pcm_f32le", rate=8_000, channels=2) as session:
            await session.send(bytes(8 * 20_000))
            await session.gap(9_000)
            await session.send(bytes(8 * 5))
            assert session.sent == 29_005
            await session.end()
        sent = [(m.offset, len(m.pcm) // 8 if isinstance(m, Audio) else m.frames) for m in server.heard[1:-1]]
        assert sent == [(0, 8_000), (8_000, 8_000), (16_000, 4_000), (20_000, 8_000), (28_000, 1_000), (29_000, 5)]
        assert [type(m) for m in server.heard[1:-1]] == [Audio, Audio, Audio, Gap, Gap, Audio]


@pytest.mark.parametrize("subprotocol", [MSGPACK, JSON])
async def test_a_message_fits_the_servers_largest_frame(subprotocol: str):
    async def narrow(peer: Peer) -> None:
        await peer.open(max_frame_bytes=1_024)
        await peer.receive()
        frame = peer.codec.encode(peer.heard[-1])  # type: ignore[arg-type]
        assert 576 < len(frame) <= 1_024
        await converse(peer)

    async with serving(narrow) as server, connect(server.url, subprotocol=subprotocol) as session:
        await session.send(SECOND)
        await session.end()


async def test_part_of_a_sample_frame_and_an_empty_gap_are_the_callers_mistake():
    async with serving(polite) as server, connect(server.url, channels=2) as session:
        with pytest.raises(ValueError, match="6 bytes are not a whole number of 4-byte sample frames"):
            await session.send(bytes(6))
        with pytest.raises(ValueError, match="at least one"):
            await session.gap(0)
        await session.send(b"")
        assert session.sent == 0


async def test_a_fast_sender_is_held_back_exactly_at_the_credit():
    process: asyncio.Queue[int] = asyncio.Queue()

    async def slow(peer: Peer) -> None:
        await peer.open(credit_s=2.5)

        async def acknowledge() -> None:
            while True:
                processed = await process.get()
                await peer.send(Ack(processed, processed))

        acknowledging = asyncio.create_task(acknowledge())
        try:
            while True:
                await peer.receive()
        finally:
            acknowledging.cancel()

    async with serving(slow) as server, connect(server.url) as session:
        sending = asyncio.create_task(session.send(SECOND * 4))
        await asyncio.sleep(0.05)
        assert session.sent == 32_000  # 2.5 s of credit: the third second does not fit
        process.put_nowait(7_999)
        await asyncio.sleep(0.05)
        assert session.sent == 32_000  # one sample frame short
        process.put_nowait(8_000)
        await asyncio.sleep(0.05)
        assert session.sent == 48_000
        assert session.ahead_s == 2.5
        process.put_nowait(48_000)
        await sending
        assert (session.sent, session.received, session.processed, session.ahead_s) == (64_000, 48_000, 48_000, 1.0)


async def test_the_credit_is_measured_at_the_sessions_own_rate():
    async def silent(peer: Peer) -> None:
        await peer.open(credit_s=1.0)
        while True:
            await peer.receive()

    async with serving(silent) as server, connect(server.url, rate=8_000) as session:
        await session.send(bytes(16_000))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.send(bytes(2)), 0.05)
        assert session.sent == 8_000


async def test_refused_audio_is_declared_lost_once_and_the_timeline_goes_on():
    async def picky(peer: Peer) -> None:
        await peer.open()
        for _ in range(3):
            await peer.receive()
        await peer.send(refusal("offset_gap", expected=1_600), refusal("offset_gap", expected=1_600))
        await converse(peer)

    async with serving(picky) as server:
        async with connect(server.url) as session:
            for _ in range(3):
                await session.send(SECOND[:3_200])
            assert isinstance(await anext(session), Error)
            await session.send(SECOND[:3_200])
            assert isinstance(await anext(session), Error)
            await session.send(SECOND[:3_200])
            await session.end()
        assert server.heard[4:] == [
            Gap(1_600, 3_200),
            Audio(4_800, SECOND[:3_200]),
            Audio(6_400, SECOND[:3_200]),
            End(8_000),
        ]


async def test_an_answer_comes_whole_or_in_pieces():
    async with serving(polite) as server, connect(server.url) as session:
        whole = await session.ask("What was said?", last_s=12.5, max_tokens=7)
        assert whole == answer("q1", "What was said?")
        assert server.heard[-1] == Ask("q1", "What was said?", Scope(12.5), 7)
        stream = session.ask_stream("Who spoke?")
        assert "".join([piece async for piece in stream]) == "Who spoke? "
        assert await stream.answer() == answer("q2", "Who spoke?")
        await stream.cancel()  # nothing to stop any more
        await session.flush()
        assert not [message for message in server.heard if isinstance(message, Cancel)]


async def test_pieces_arrive_while_the_answer_is_generated():
    go_on = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(AnswerDelta("q1", "One "))
        await go_on.wait()
        await peer.send(AnswerDelta("q1", "two."), answer("q1", "One two."))
        await peer.receive()

    async with serving(slow) as server, connect(server.url) as session:
        stream = session.ask_stream("Count.")
        assert await anext(stream) == "One "
        go_on.set()
        assert [piece async for piece in stream] == ["two."]


async def test_a_cancelled_question_ends_with_what_there_was():
    async def patient(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(AnswerDelta("q1", "Well"))
        assert await peer.receive() == Cancel("q1")
        await peer.send(msgspec.structs.replace(answer("q1", "Well"), finish="cancelled"))
        await peer.receive()

    async with serving(patient) as server, connect(server.url) as session:
        stream = session.ask_stream("Explain.")
        assert await anext(stream) == "Well"
        await stream.cancel()
        assert (await stream.answer()).finish == "cancelled"
        assert [piece async for piece in stream] == []


async def test_a_caller_who_gives_up_cancels_the_question():
    cancelled = asyncio.Event()

    async def silent(peer: Peer) -> None:
        await peer.open()
        assert isinstance(await peer.receive(), Ask)
        assert await peer.receive() == Cancel("q1")
        cancelled.set()
        await peer.receive()

    async with serving(silent) as server, connect(server.url) as session:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.ask("Anyone?"), 0.05)
        await cancelled.wait()


async def test_a_refused_question_raises_and_the_session_goes_on():
    async def full(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(refusal("query_limit", ref="q1"))
        await converse(peer)

    async with serving(full) as server, connect(server.url) as session:
        with pytest.raises(ServerError, match=r"no \(query_limit\)") as raised:
            await session.ask("One too many?")
        assert raised.value.error.code == "query_limit"
        assert isinstance(await anext(session), Error)
        assert (await session.ask("And now?")).text == "And now?"


async def test_bounds_that_the_server_could_not_tie_to_a_question_are_checked_here():
    async with serving(polite) as server, connect(server.url) as session:
        with pytest.raises(ValueError, match="last_s"):
            await session.ask("x", last_s=0)
        with pytest.raises(ValueError, match="max_tokens"):
            session.ask_stream("x", max_tokens=0)
        with pytest.raises(ValueError, match="every_s"):
            await session.watch("x", every_s=-1)


async def test_watch_unwatch_and_flush_are_sent_in_order():
    async with serving(polite) as server, connect(server.url) as session:
        name = await session.watch("Is anyone angry?", every_s=5)
        await session.unwatch(name)
        await session.send(SECOND)
        assert (await session.flush()).received == 16_000
        assert server.heard[1:] == [Watch("w1", "Is anyone angry?", 5), Unwatch("w1"), Audio(0, SECOND), Flush("f2")]


async def test_a_speaker_is_named():
    async with serving(polite) as server, connect(server.url, speakers=2) as session:
        await session.name_speaker(1, "Anna")
        with pytest.raises(ValueError, match="name"):
            await session.name_speaker(1, "A" * 65)
        with pytest.raises(ValueError, match="speaker"):
            await session.name_speaker(0, "Anna")
        await session.flush()
        assert server.heard[0].speakers == 2
        assert server.heard[1] == NameSpeaker(1, "Anna")


async def test_instructions_are_given_at_the_start_and_changed():
    async with serving(polite) as server, connect(server.url, instructions="Be brief.") as session:
        await session.instruct("Rhyme.")
        with pytest.raises(ValueError, match="100 characters"):
            await session.instruct("x" * 101)
        await session.flush()
        assert server.heard[0].instructions == "Be brief."
        assert server.heard[1] == Instruct("Rhyme.")


async def test_a_server_of_an_older_version_is_sent_no_instructions():
    async def older(peer: Peer) -> None:
        await peer.open(features=())
        await converse(peer)

    async with serving(older) as server, connect(server.url) as session:
        with pytest.raises(ValueError, match="takes no instructions"):
            await session.instruct("Rhyme.")


async def test_a_refused_end_raises_and_may_be_tried_again():
    async def miscounting(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(refusal("bad_end"))
        await converse(peer)

    async with serving(miscounting) as server, connect(server.url) as session:
        with pytest.raises(ServerError, match="bad_end"):
            await session.end()
        assert isinstance(await session.end(), Ended)


async def test_a_fatal_refusal_ends_every_wait_and_then_the_messages():
    async def strict(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(final("So far.", 0, 1), refusal("rate_limited", fatal=True))
        await peer.socket.close(4429)

    async with serving(strict) as server, connect(server.url) as session:
        with pytest.raises(ServerError, match="rate_limited"):
            await session.ask("Will this be answered?")
        assert await anext(session) == final("So far.", 0, 1)
        with pytest.raises(ServerError, match="rate_limited"):
            await anext(session)
        with pytest.raises(ServerError, match="rate_limited"):
            await session.send(SECOND)


async def test_a_server_that_goes_away_is_named_with_its_close_code():
    async def leaving(peer: Peer) -> None:
        await peer.open()
        await peer.socket.close(1012, "restarting")

    async with serving(leaving) as server, connect(server.url) as session:
        with pytest.raises(ConnectionLost, match="closed the connection with code 1012: restarting"):
            await rest(session)
        with pytest.raises(ConnectionLost):
            await session.send(SECOND)


async def test_a_connection_that_breaks_is_lost():
    async def breaking(peer: Peer) -> None:
        await peer.open()
        peer.socket.transport.abort()

    async with serving(breaking) as server, connect(server.url) as session:
        with pytest.raises(ConnectionLost, match="was lost"):
            await session.end()


async def test_a_server_that_talks_nonsense_is_lost():
    async def babbling(peer: Peer) -> None:
        await peer.open()
        await peer.socket.send(b"\xc1")
        await peer.receive()

    async with serving(babbling) as server, connect(server.url) as session:
        with pytest.raises(ConnectionLost, match="no message of"):
            await rest(session)


async def test_after_the_end_no_request_is_taken():
    async with serving(polite) as server, connect(server.url) as session:
        await session.end()
        with pytest.raises(SessionEnded):
            await session.ask("Too late?")
    assert [type(message) for message in await rest(session)] == [Caption, Ended]


async def test_leaving_the_block_ends_a_reader():
    async with serving(polite) as server:
        async with connect(server.url) as session:
            reading = asyncio.create_task(rest(session))
            await asyncio.sleep(0)
        assert await reading == []


async def test_a_slow_reader_misses_interims_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dialogue_module, "INBOX_MESSAGES", 4)

    async def talkative(peer: Peer) -> None:
        await peer.open()
        await peer.send(interim("a"), final("a b", 0, 1), interim("c"), Speech("started", 1.0), interim("d"))
        await peer.send(final("c d", 1, 2), ended(0))
        await peer.receive()

    async with serving(talkative) as server, connect(server.url) as session:
        await session.end()
        kept = [final("a b", 0, 1), Speech("started", 1.0), final("c d", 1, 2), ended(0)]
        assert await rest(session) == kept


async def test_a_reader_who_misses_more_is_told_and_requests_still_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dialogue_module, "INBOX_MESSAGES", 2)

    async def talkative(peer: Peer) -> None:
        await peer.open()
        await peer.send(*(final(str(number), number, number + 1) for number in range(5)))
        await converse(peer)

    async with serving(talkative) as server, connect(server.url) as session:
        assert (await session.ask("Still there?")).text == "Still there?"
        assert await anext(session) == final("0", 0, 1)
        assert await anext(session) == final("1", 1, 2)
        with pytest.raises(ReaderTooSlow, match="2 messages waited"):
            await anext(session)
