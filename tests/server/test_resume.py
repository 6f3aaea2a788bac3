"""A session outlives its connection, and its server: what was acknowledged is there, and everything is told once."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from af3stream.config import JournalConfig, ModelConfig
from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.scripted import ScriptedEngine
from af3stream.errors import StorageError, StorageFull
from af3stream.journal.catalog import Catalog
from af3stream.journal.facts import Recovered
from af3stream.journal.journal import Journal
from af3stream.journal.records import AudioRecord, EventRecord
from af3stream.protocol import messages as m
from af3stream.server.service import Service
from af3stream.server.session_manager import SessionManager
from af3stream.server.session_runner import SessionRunner
from af3stream.session import event_log
from af3stream.session.session import Session
from tests.conftest import RECORDINGS
from tests.server.peers import PATIENCE_S, Peer, connected, serving, settled
from tests.server.wire import FIN, TEXT, Wire, frame

RATE = 16_000
BLOCK = 3_200  # sample frames a message


@pytest.fixture(scope="module")
def speech() -> bytes:
    """Two sentences with a pause between them and after: s16le, 16 kHz."""
    names = ("0880", "0930")
    pieces = []
    for name in names:
        (path,) = RECORDINGS.glob(f"*{name}.wav")
        pieces += [soundfile.read(path, dtype="int16")[0], np.zeros(RATE, np.int16)]
    return np.concatenate(pieces).tobytes()


@asynccontextmanager
async def resuming(
    service: Service, start: m.Start | None = None, **options: Any
) -> AsyncIterator[tuple[Peer, m.Ready]]:
    async with connected(service, **options) as peer:
        await peer.tell(start or m.Start())
        yield peer, await peer.until(m.Ready)


async def send(peer: Peer, speech: bytes, start: int, end: int) -> None:
    """Stream the sample frames from `start` to `end`."""
    for at in range(start, end, BLOCK):
        stop = min(at + BLOCK, end)
        await peer.tell(m.Audio(at, speech[2 * at : 2 * stop]))


async def durable_up_to(peer: Peer, frame: int) -> m.Ack:
    while (ack := await peer.until(m.Ack)).durable != frame:
        pass
    return ack


async def finish(peer: Peer, speech: bytes, start: int) -> m.Ended:
    total = len(speech) // 2
    await send(peer, speech, start, total)
    await peer.tell(m.End(total))
    return await peer.until(m.Ended)


async def heard_in_one_go(speech: bytes, folder: Path) -> list[m.Caption]:
    async with serving(journal=folder) as service, resuming(service) as (peer, _):
        await finish(peer, speech, 0)
        return peer.finals


def sessions_in(folder: Path) -> list[str]:
    journal = Journal(JournalConfig(folder=str(folder)))
    ids = [summary.facts.session for summary in journal.sessions()]
    journal.stop()
    return ids


def kept_events(folder: Path, session: str) -> int:
    journal = Journal(JournalConfig(folder=str(folder)))
    recovered = journal.recover(session)
    journal.stop()
    return len(recovered.events)


def audio_in(folder: Path, session: str) -> bytes:
    """What the journal has of a session."""
    journal = Journal(JournalConfig(folder=str(folder)))
    recovered = journal.recover(session)
    pcm = b"".join(record.pcm for record in recovered.audio if isinstance(record, AudioRecord))
    journal.stop()
    return pcm


@pytest.mark.parametrize("cut", [8_000, 30_000, 60_000, 100_000])
async def test_a_session_goes_on_after_its_connection_is_cut(tmp_path: Path, speech: bytes, cut: int) -> None:
    expected = await heard_in_one_go(speech, tmp_path / "whole")
    async with serving(journal=tmp_path / "cut") as service:
        async with resuming(service) as (first, ready):
            await send(first, speech, 0, cut)
            await durable_up_to(first, cut)
            first.socket.transport.abort()
        await settled(service)
        seen = max([final.event or 0 for final in first.finals], default=0)
        again = m.Start(resume=ready.resume, last_event=seen, durable=cut)
        async with resuming(service, again) as (second, resumed):
            assert (resumed.session, resumed.received, resumed.durable) == (ready.session, cut, cut)
            ended = await finish(second, speech, resumed.received)
    assert first.finals + second.finals == expected
    assert ended.total == len(speech) // 2
    assert audio_in(tmp_path / "cut", ready.session) == speech


@pytest.mark.parametrize("cut", [8_000, 60_000, 100_000])
async def test_a_session_goes_on_after_its_server_is_restarted(tmp_path: Path, speech: bytes, cut: int) -> None:
    async with AsyncExitStack() as peers:
        async with serving(journal=tmp_path) as service:
            first, ready = await peers.enter_async_context(resuming(service))
            await send(first, speech, 0, cut)
            await durable_up_to(first, cut)
            closing = asyncio.create_task(first.until_closed())
        assert await closing == 1012
    seen = max([final.event or 0 for final in first.finals], default=0)
    again = m.Start(resume=ready.resume, last_event=seen, durable=cut)
    async with serving(journal=tmp_path) as service, resuming(service, again) as (second, resumed):
        assert (resumed.session, resumed.received) == (ready.session, cut)
        await second.tell(m.Ask("q", "What?"))
        answer = await second.until(m.Answer)
        ended = await finish(second, speech, cut)
    finals = first.finals + second.finals
    assert [final.event for final in finals] == sorted({final.event or 0 for final in finals})
    assert len({final.utterance for final in finals}) == len(finals) == ended.utterances
    assert all(a.end <= b.start for a, b in pairwise(finals))
    assert answer.end <= cut / RATE
    assert audio_in(tmp_path, ready.session) == speech


async def test_the_instructions_of_the_start_are_kept_and_later_ones_are_sent_again(
    tmp_path: Path, speech: bytes
) -> None:
    async def asked(peer: Peer, name: str) -> str:
        await peer.tell(m.Ask(name, "What?"))
        while (answer := await peer.until(m.Answer)).id != name:
            pass
        return answer.text

    total = len(speech) // 2
    async with (
        serving(journal=tmp_path) as service,
        resuming(service, m.Start(instructions="Be brief.")) as (peer, ready),
    ):
        assert ready.max_instructions_chars == 8_000
        await send(peer, speech, 0, total)
        await durable_up_to(peer, total)
        await peer.tell(m.Instruct("Rhyme."))
        assert "[Rhyme.]" in await asked(peer, "q1")
    async with serving(journal=tmp_path) as service:
        start = m.Start(resume=ready.resume, last_event=ready.last_event)
        async with resuming(service, start) as (peer, _):
            assert "[Be brief.]" in await asked(peer, "q2")
            await peer.tell(m.Instruct("Rhyme."))
            assert "[Rhyme.]" in await asked(peer, "q3")


async def test_kept_messages_come_again_from_the_event_that_is_named(tmp_path: Path, speech: bytes) -> None:
    async with serving(journal=tmp_path) as service:
        async with resuming(service) as (first, ready):
            await send(first, speech, 0, 100_000)
            await first.tell(m.Ask("q", "What?"))
            await first.until(m.Answer)
            await first.tell(m.Flush("f"))
            await first.until(m.Flushed)
            first.socket.transport.abort()
        await settled(service)
        kept = [message for message in first.said if isinstance(message, m.Caption | m.Answer) and message.event]
        assert len(kept) == 3
        token = ready.resume
        for missed, last_event in enumerate([0, *(message.event for message in kept)]):
            async with resuming(service, m.Start(resume=token, last_event=last_event)) as (peer, resumed):
                token = resumed.resume
                await peer.tell(m.Flush("g"))
                await peer.until(m.Flushed)
                assert [message for message in peer.said if getattr(message, "event", None)] == kept[missed:]
            await settled(service)


async def test_who_missed_more_than_may_wait_is_told_all_of_it(tmp_path: Path) -> None:
    async with serving(journal=tmp_path, outgoing_messages=4) as service:
        async with resuming(service) as (first, ready):
            for number in range(20):
                await first.tell(m.Ask(f"q{number}", "What?"))
                await first.until(m.Answer)
        await settled(service)
        async with resuming(service, m.Start(resume=ready.resume)) as (late, _):
            await late.tell(m.Flush("f"))
            await late.until(m.Flushed)
    assert late.of(m.Answer) == first.of(m.Answer)


async def test_a_question_sent_again_is_answered_once(tmp_path: Path, speech: bytes) -> None:
    async with serving(journal=tmp_path) as service:
        async with resuming(service) as (first, ready):
            await send(first, speech, 0, 60_000)
            await first.tell(m.Ask("q", "What?"))
            answer = await first.until(m.Answer)
        await settled(service)
        start = m.Start(resume=ready.resume, last_event=(answer.event or 0) - 1)
        async with resuming(service, start) as (second, _):
            await second.tell(m.Ask("q", "What?"), m.Flush("f"))
            await second.until(m.Flushed)
            assert second.of(m.Answer) == [answer]
            await second.tell(m.Ask("q", "And why?"))
            refused = await second.until(m.Error)
            assert (refused.code, refused.ref, refused.fatal) == ("query_limit", "q", False)


async def test_a_session_that_has_ended_is_told_so_again_with_all_it_said(tmp_path: Path, speech: bytes) -> None:
    """A connection may be lost after the server said `ended` and before the client read it."""
    total = 48_000  # in the middle of what an utterance may still become
    async with serving(journal=tmp_path) as service:
        async with resuming(service) as (peer, ready):
            await send(peer, speech, 0, total)
            await peer.tell(m.End(total))
            first = await peer.until(m.Ended)
        async with resuming(service, m.Start(resume=ready.resume)) as (peer, again):
            assert (again.received, again.processed, again.durable) == (total, total, total)
            assert await peer.until(m.Ended) == first
            finals = [told for told in peer.said if isinstance(told, m.Caption)]
            assert [told.event for told in finals] == list(range(1, again.last_event + 1))


async def test_the_newest_connection_wins(tmp_path: Path, speech: bytes) -> None:
    async with serving(journal=tmp_path) as service, resuming(service) as (first, ready):
        await send(first, speech, 0, 16_000)
        await durable_up_to(first, 16_000)
        async with resuming(service, m.Start(resume=ready.resume)) as (second, resumed):
            assert resumed.received == 16_000
            assert await first.until_closed() == 4409
            assert first.of(m.Error)[-1].code == "superseded"
            await finish(second, speech, 16_000)


async def test_a_token_is_worth_nothing_once_its_successor_is_used(tmp_path: Path) -> None:
    async with serving(journal=tmp_path) as service:
        async with resuming(service) as (_, ready):
            pass
        await settled(service)
        for _ in range(2):  # a client that never heard of the successor may come with the same token again
            async with resuming(service, m.Start(resume=ready.resume)):
                pass
            await settled(service)
        async with resuming(service, m.Start(resume=ready.resume)) as (peer, _):
            await peer.tell(m.Flush("f"))
            await peer.until(m.Flushed)
        await settled(service)
        async with connected(service) as late:
            await late.tell(m.Start(resume=ready.resume))
            assert await late.until_closed() == 4404
            assert late.of(m.Error)[-1].code == "no_session"


async def test_another_users_token_is_as_if_absent(tmp_path: Path) -> None:
    def bearer(token: str) -> dict[str, Any]:
        return {"additional_headers": {"Authorization": f"Bearer {token}"}}

    async with serving(journal=tmp_path, tokens=("ann", "bob")) as service:
        async with resuming(service, **bearer("ann")) as (_, ready):
            pass
        await settled(service)
        told = []
        for token in (ready.resume, "made-up"):
            async with connected(service, **bearer("bob")) as thief:
                await thief.tell(m.Start(resume=token))
                assert await thief.until_closed() == 4404
                told.append(thief.of(m.Error)[-1])
        assert told[0] == told[1]
        async with resuming(service, m.Start(resume=ready.resume), **bearer("ann")) as (_, resumed):
            assert resumed.session == ready.session


async def test_a_client_that_knows_of_more_than_there_is_is_told_so(tmp_path: Path, speech: bytes) -> None:
    async with serving(journal=tmp_path) as service:
        async with resuming(service) as (first, ready):
            await send(first, speech, 0, 16_000)
            await durable_up_to(first, 16_000)
        await settled(service)
        async with connected(service) as peer:
            await peer.tell(m.Start(resume=ready.resume, durable=16_001))
            assert await peer.until_closed() == 4500
            assert peer.of(m.Error)[-1].code == "data_loss"


async def test_without_a_journal_nothing_is_durable_and_nothing_can_be_resumed(speech: bytes) -> None:
    async with serving() as service:
        async with resuming(service) as (peer, ready):
            assert (ready.resume, ready.durable) == ("", None)
            await send(peer, speech, 0, 16_000)
            assert (await peer.until(m.Ack)).durable is None
        await settled(service)
        async with connected(service) as late:
            await late.tell(m.Start(resume="anything"))
            assert await late.until_closed() == 4404


async def test_processed_never_passes_durable(tmp_path: Path, speech: bytes) -> None:
    async with serving(journal=tmp_path) as service, resuming(service) as (peer, _):
        await finish(peer, speech, 0)
        acks = peer.of(m.Ack)
        assert all(ack.durable is not None and ack.processed <= ack.durable <= ack.received for ack in acks)
        assert [ack.durable for ack in acks] == sorted(ack.durable or 0 for ack in acks)
        assert acks[-1].durable == len(speech) // 2


async def test_a_restored_session_encodes_nothing_until_it_is_asked(tmp_path: Path, speech: bytes) -> None:
    async with serving(journal=tmp_path) as service, resuming(service) as (first, ready):
        await send(first, speech, 0, 100_000)
        await first.tell(m.Flush("f"))
        await first.until(m.Window)
    seen = max(final.event or 0 for final in first.finals)
    engine, again = ScriptedEngine(), m.Start(resume=ready.resume, last_event=seen)
    async with serving(engine, journal=tmp_path) as service, resuming(service, again) as (peer, _):
        await peer.tell(m.Flush("g"))
        await peer.until(m.Flushed)
        assert (engine.counters.sounds_encoded, engine.counters.caption_encodes) == (0, 0)
        await peer.tell(m.Ask("q", "What?"))
        answer = await peer.until(m.Answer)
        assert engine.counters.sounds_encoded == answer.windows


async def test_who_is_superseded_while_its_token_is_confirmed_is_not_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirming, go_on = asyncio.Event(), asyncio.Event()
    confirm = SessionManager.confirm

    async def slowly(hosts: SessionManager, host: SessionRunner) -> None:
        if not confirming.is_set():
            confirming.set()
            await go_on.wait()
        await confirm(hosts, host)

    monkeypatch.setattr(SessionManager, "confirm", slowly)
    async with serving(journal=tmp_path) as service, resuming(service) as (first, ready):
        await first.tell(m.Audio(0, bytes(2 * RATE)))
        await confirming.wait()
        async with resuming(service, m.Start(resume=ready.resume)) as (second, resumed):
            go_on.set()
            assert await first.until_closed() == 4409
            assert [error.code for error in first.of(m.Error)] == ["superseded"]
            assert resumed.received == 0
            await second.tell(m.End(0))
            assert (await second.until(m.Ended)).total == 0


async def test_a_session_is_not_recovered_before_it_has_left_memory(
    tmp_path: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, released = Journal.release, []

    def slowly(journal: Journal, session: str) -> None:
        time.sleep(0.3)
        release(journal, session)
        released.append(session)

    monkeypatch.setattr(Journal, "release", slowly)
    async with serving(journal=tmp_path, resume_s=0.01) as service:
        async with resuming(service) as (first, ready):
            await send(first, speech, 0, 16_000)
            await durable_up_to(first, 16_000)
        await asyncio.sleep(0.1)  # nobody came for it, and it is on its way out
        async with resuming(service, m.Start(resume=ready.resume)) as (second, resumed):
            assert released == [ready.session]
            assert resumed.received == 16_000
            await finish(second, speech, 16_000)


class SlowDisk:
    """Stores the next token of a session only when its gate is open."""

    def __init__(self, session: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writing, self.gate = threading.Event(), threading.Event()
        store = Journal.set_token

        def slowly(journal: Journal, stored: str, *token: Any) -> None:
            if stored == session:
                self.writing.set()
                assert self.gate.wait(PATIENCE_S)
            store(journal, stored, *token)

        monkeypatch.setattr(Journal, "set_token", slowly)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_session_stays_while_it_is_being_resumed(
    tmp_path: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    async with serving(journal=JournalConfig(folder=str(tmp_path), shared=shared), resume_s=0.5) as service:
        async with resuming(service) as (first, ready):
            await send(first, speech, 0, 16_000)
            await durable_up_to(first, 16_000)
        await settled(service)
        disk = SlowDisk(ready.session, monkeypatch)
        async with connected(service) as second:
            await second.tell(m.Start(resume=ready.resume))
            assert await asyncio.to_thread(disk.writing.wait, PATIENCE_S)
            await asyncio.sleep(1.0)  # longer than it is kept for a client to come
            disk.gate.set()
            assert (await second.until(m.Ready)).received == 16_000
            await finish(second, speech, 16_000)


async def test_a_session_that_is_being_resumed_makes_no_room_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list[m.Ready]()
    async with serving(journal=tmp_path, max_sessions=2) as service:
        for _ in range(2):  # the first would be the first to make room
            async with resuming(service) as (_, ready):
                left.append(ready)
            await settled(service)
        ready = left[0]
        disk = SlowDisk(ready.session, monkeypatch)
        async with connected(service) as peer:
            await peer.tell(m.Start(resume=ready.resume))
            assert await asyncio.to_thread(disk.writing.wait, PATIENCE_S)
            async with resuming(service) as (_, newcomer):
                disk.gate.set()
                await peer.until(m.Ready)
                assert set(service._hosts._hosts) == {ready.session, newcomer.session}  # the other one was released
                await peer.tell(m.End(0))
                await peer.until(m.Ended)


async def test_who_resumes_a_session_that_is_released_meanwhile_may_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(journal=tmp_path) as service:
        async with resuming(service) as (_, ready):
            pass
        await settled(service)
        disk = SlowDisk(ready.session, monkeypatch)
        async with connected(service) as peer:
            await peer.tell(m.Start(resume=ready.resume))
            assert await asyncio.to_thread(disk.writing.wait, PATIENCE_S)
            service._hosts.superseded(ready.session)
            disk.gate.set()
            assert await peer.until_closed() == 1012
            (error,) = peer.of(m.Error)
            assert (error.code, error.retryable) == ("shutting_down", True)
        async with resuming(service, m.Start(resume=ready.resume)) as (again, resumed):
            assert resumed.session == ready.session
            await again.tell(m.End(0))
            await again.until(m.Ended)


async def test_a_newcomer_does_not_wait_for_another_ones_recovery(
    tmp_path: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(journal=tmp_path) as service, resuming(service) as (first, ready):
        await send(first, speech, 0, 16_000)
        await durable_up_to(first, 16_000)
    recovering, go_on, restore = threading.Event(), threading.Event(), Session.restore

    def slowly(session: Session, recovered: Recovered) -> None:
        recovering.set()
        assert go_on.wait(PATIENCE_S)
        restore(session, recovered)

    monkeypatch.setattr(Session, "restore", slowly)
    async with serving(journal=tmp_path) as service, connected(service) as late, connected(service) as later:
        for peer in (late, later):
            await peer.tell(m.Start(resume=ready.resume))
        await asyncio.to_thread(recovering.wait, PATIENCE_S)
        async with resuming(service) as (newcomer, _):
            await newcomer.tell(m.End(0))
            await newcomer.until(m.Ended)
        go_on.set()
        both = [await peer.until(m.Ready) for peer in (late, later)]
        assert [resumed.session for resumed in both] == [ready.session] * 2
        closed = [asyncio.create_task(peer.until_closed()) for peer in (late, later)]
        (superseded,), _ = await asyncio.wait(closed, return_when=asyncio.FIRST_COMPLETED)
        assert superseded.result() == 4409
        for task in closed:
            task.cancel()


async def test_a_token_that_cannot_be_confirmed_costs_no_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(journal: Journal, session: str, token_hash: bytes) -> None:
        raise StorageFull

    monkeypatch.setattr(Journal, "confirm_token", refuse)
    async with serving(journal=tmp_path) as service, resuming(service) as (peer, _):
        await peer.tell(m.Audio(0, bytes(2 * RATE)), m.End(RATE))
        assert (await peer.until(m.Ended)).total == RATE
    assert not peer.of(m.Error)


async def test_a_disk_that_lets_no_session_go_is_no_reason_not_to_end(
    tmp_path: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(catalog: Catalog, session: str, durable: int) -> None:
        raise StorageError

    with monkeypatch.context() as refusing:
        refusing.setattr(Catalog, "set_durable", refuse)
        async with serving(journal=tmp_path) as service, resuming(service) as (first, ready):
            await send(first, speech, 0, 16_000)
            await durable_up_to(first, 16_000)
    async with serving(journal=tmp_path) as service, resuming(service, m.Start(resume=ready.resume)) as (_, resumed):
        assert resumed.durable == 16_000


async def test_who_was_superseded_opens_nothing_more(tmp_path: Path) -> None:
    opening = frame(FIN | TEXT, b'{"type":"start"}')
    async with serving(journal=tmp_path) as service:
        first = await Wire.open(service)
        first.writer.write(opening)
        ready = json.loads((await first.next_frame())[1])
        async with resuming(service, m.Start(resume=ready["resume"])):
            first.writer.write(opening * 3)
            assert await first.close_code() == 4409
        await settled(service)
    assert len(sessions_in(tmp_path)) == 1


async def test_a_server_that_goes_away_opens_and_resumes_nothing(tmp_path: Path) -> None:
    async with serving(journal=tmp_path) as service, connected(service) as late:
        service._hosts.drain()
        await late.tell(m.Start())
        assert await late.until_closed() == 1012
        (error,) = late.of(m.Error)
        assert (error.code, error.retryable) == ("shutting_down", True)
        assert error.retry_after_ms


async def test_what_was_dropped_for_long_is_read_from_the_journal_again(tmp_path: Path, speech: bytes) -> None:
    engine = ScriptedEngine()
    cold = ModelConfig(cool_after_s=0.05, drop_after_s=0.1)
    async with serving(engine, model=cold, journal=tmp_path) as service, resuming(service) as (peer, _):
        await send(peer, speech, 0, 100_000)
        await peer.tell(m.Flush("f"))
        window = await peer.until(m.Window)
        answers = []
        for number in range(2):
            await peer.tell(m.Ask(f"q{number}", "What?"))
            answers.append((await peer.until(m.Answer)).text)
            await asyncio.sleep(0.5)
        assert answers[0] == answers[1] == f"What? <- {window.end - window.start:g}s"
        assert engine.counters.sounds_encoded >= 2


async def test_a_session_with_several_flushes_at_one_offset_is_resumed_again_and_again(
    tmp_path: Path, speech: bytes
) -> None:
    token, at = None, 0
    for _ in range(4):  # what one server closed the next one seals, and its records are joined
        async with serving(journal=tmp_path) as service, resuming(service, m.Start(resume=token)) as (peer, ready):
            assert ready.received == at
            await send(peer, speech, at, at + 20_100)
            for name in ("f", "g", "h"):
                await peer.tell(m.Flush(name))
                await peer.until(m.Flushed)
            await send(peer, speech, at + 20_100, at + 30_000)
            await durable_up_to(peer, at := at + 30_000)
            token = ready.resume
    async with serving(journal=tmp_path) as service, resuming(service, m.Start(resume=token)) as (peer, ready):
        ended = await finish(peer, speech, ready.received)
    assert ended.total == len(speech) // 2
    assert audio_in(tmp_path, ready.session) == speech


async def test_a_client_that_knows_of_an_event_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    async with serving(journal=tmp_path) as service:
        async with resuming(service) as (first, ready):
            await first.tell(m.Ask("q", "What?"))
            answer = await first.until(m.Answer)
            assert answer.event == 1
        await settled(service)
        async with connected(service) as peer:
            await peer.tell(m.Start(resume=ready.resume, last_event=2))
            assert await peer.until_closed() == 4500
            assert [error.code for error in peer.of(m.Error)] == ["data_loss"]
        async with resuming(service, m.Start(resume=ready.resume, last_event=1)) as (_, resumed):
            assert (resumed.session, resumed.last_event) == (ready.session, 1)


async def answered(service: Service, questions: int) -> tuple[list[m.Answer], str]:
    """Ask so many questions; returns the answers, and the token to resume with."""
    async with resuming(service) as (peer, ready):
        for number in range(questions):
            await peer.tell(m.Ask(f"q{number}", "What?"))
            await peer.until(m.Answer)
    await settled(service)
    return peer.of(m.Answer), ready.resume


async def test_events_that_left_the_memory_come_from_the_journal_read_in_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers, events = list[threading.Thread](), Journal.events

    def noting(journal: Journal, session: str) -> list[EventRecord]:
        readers.append(threading.current_thread())
        return events(journal, session)

    monkeypatch.setattr(event_log, "NEWEST_KEPT", 5)
    monkeypatch.setattr(Journal, "events", noting)
    async with serving(journal=tmp_path) as service:
        answers, token = await answered(service, 12)
        async with resuming(service, m.Start(resume=token, last_event=7)) as (recent, ready):
            await recent.tell(m.Flush("f"))
            await recent.until(m.Flushed)
        assert recent.of(m.Answer) == answers[7:] and readers == []  # an ordinary resume reads no disk
        await settled(service)
        async with resuming(service, m.Start(resume=ready.resume, last_event=1)) as (late, _):
            await late.tell(m.Flush("g"))
            await late.until(m.Flushed)
        assert late.of(m.Answer) == answers[1:]
        assert len(readers) == 1 and readers[0] is not threading.current_thread()


async def test_a_client_that_missed_events_which_are_nowhere_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "NEWEST_KEPT", 5)
    monkeypatch.setattr(Journal, "events", lambda *_: [])
    async with serving(journal=tmp_path) as service:
        _, token = await answered(service, 8)
        async with connected(service) as peer:
            await peer.tell(m.Start(resume=token, last_event=1))
            assert await peer.until_closed() == 4500
            assert [error.code for error in peer.of(m.Error)] == ["data_loss"]
        async with resuming(service, m.Start(resume=token, last_event=3)) as (_, ready):
            assert ready.last_event == 8


class Gated(ScriptedEngine):
    """Captions nothing before its gate is open, and remembers what it captioned, in samples."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.heard = threading.Event(), list[int]()
        hear = self.captioner.hear

        def gated(request: CaptionRequest) -> Hypothesis:
            assert self.gate.wait(PATIENCE_S)
            self.heard.append(len(request.samples))
            return hear(request)

        self.captioner.hear = gated  # type: ignore[method-assign]


async def test_sessions_whose_clients_are_gone_are_captioned_after_those_whose_are_there(
    tmp_path: Path, speech: bytes
) -> None:
    engine, quiet = Gated(), m.Start(interims=False)
    async with serving(engine, journal=tmp_path) as service:
        for _ in range(3):
            async with resuming(service, quiet) as (gone, ready):
                for at in range(0, 64_000, 16_000):  # each flush makes an utterance of a second
                    await send(gone, speech, at, at + 16_000)
                    await gone.tell(m.Flush(f"f{at}"))
                await durable_up_to(gone, 64_000)
        async with asyncio.timeout(PATIENCE_S):
            while service._hosts.lags_s:  # noqa: ASYNC110 - until nobody listens to them any more
                await asyncio.sleep(0.01)
        async with resuming(service, quiet) as (there, _):
            for at in range(0, 24_000, 8_000):  # half a second
                await send(there, speech, at, at + 8_000)
                await there.tell(m.Flush(f"f{at}"))
            await durable_up_to(there, 24_000)
            engine.gate.set()
            for _ in range(3):
                await there.until(m.Flushed)
            own = len(there.finals)
        assert own >= 2
        assert engine.heard[0] > 12_000 and max(engine.heard[1 : own + 1]) <= 8_000  # one was under way
        again = m.Start(resume=ready.resume)
        async with resuming(service, again) as (back, _):  # nothing is lost
            await back.tell(m.Flush("g"))
            await back.until(m.Flushed)
            assert len(back.finals) >= 3
