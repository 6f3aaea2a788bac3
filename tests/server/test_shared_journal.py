"""Servers that share a journal: a client resumes at any of them, and nothing is lost or told twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from af3stream.config import Config, JournalConfig
from af3stream.errors import ConfigError, DataLoss
from af3stream.journal.facts import Recovered
from af3stream.journal.journal import Journal
from af3stream.protocol import messages as m
from af3stream.server import service as service_module
from af3stream.server.service import Service, open_journal
from af3stream.session.session import Session
from tests.chaos.processes import Forks, Server, forking
from tests.server.peers import PATIENCE_S, Peer, connected, serving, settled
from tests.server.test_resume import BLOCK, RATE, audio_in, durable_up_to, finish, resuming, send, speech

__all__ = ["speech"]  # a fixture

CUT = 60_000  # in the second sentence, in sample frames


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with forking() as forked:
        yield forked


@asynccontextmanager
async def two_servers(folder: Path, forks: Forks) -> AsyncIterator[tuple[Server, Server]]:
    """Two processes with one journal."""
    servers = Server(folder, forks, shared=True), Server(folder, forks, shared=True)
    for server in servers:
        await server.start()
    try:
        yield servers
    finally:
        for server in servers:
            await server.kill()


@asynccontextmanager
async def sharing(folder: Path) -> AsyncIterator[Service]:
    async with serving(journal=JournalConfig(folder=str(folder), shared=True)) as service:
        yield service


def last_event(peer: Peer) -> int:
    return max([message.event or 0 for message in peer.of(m.Caption) + peer.of(m.Answer)], default=0)


async def heard_in_one_go(speech: bytes) -> list[m.Caption]:
    async with serving() as service, connected(service) as peer:
        await peer.tell(m.Start())
        await peer.until(m.Ready)
        await finish(peer, speech, 0)
        return peer.finals


def same(finals: list[m.Caption], expected: list[m.Caption]) -> None:
    """Every final caption is told once, with the words of a session that nothing interrupted."""
    assert [(c.utterance, c.text, c.start, c.end) for c in finals] == [
        (c.utterance, c.text, c.start, c.end) for c in expected
    ]


async def test_a_client_moves_to_another_server_while_its_server_lives(
    tmp_path: Path, speech: bytes, forks: Forks
) -> None:
    expected = await heard_in_one_go(speech)
    async with two_servers(tmp_path, forks) as (a, b), connected(a) as first:  # type: ignore[arg-type]
        await first.tell(m.Start())
        ready = await first.until(m.Ready)
        await send(first, speech, 0, CUT)
        await durable_up_to(first, CUT)
        again = m.Start(resume=ready.resume, last_event=last_event(first), durable=CUT)
        async with resuming(b, again) as (second, resumed):  # type: ignore[arg-type]
            assert (resumed.session, resumed.received) == (ready.session, CUT)
            await send(first, speech, CUT, CUT + BLOCK)  # its server does not know yet
            assert await first.until_closed() == 4409
            assert first.of(m.Error)[-1].code == "superseded"
            assert max(ack.durable or 0 for ack in first.of(m.Ack)) == CUT
            ended = await finish(second, speech, CUT)
    same(first.finals + second.finals, expected)
    assert ended.total == len(speech) // 2
    assert audio_in(tmp_path, ready.session) == speech


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_client_moves_to_another_server_when_its_server_ends(
    tmp_path: Path, speech: bytes, forks: Forks, how: signal.Signals
) -> None:
    async with two_servers(tmp_path, forks) as (a, b):
        async with connected(a) as first:  # type: ignore[arg-type]
            await first.tell(m.Start())
            ready = await first.until(m.Ready)
            await send(first, speech, 0, CUT)
            await durable_up_to(first, CUT)
            await a.stop(how)
            if how is signal.SIGTERM:
                assert await first.until_closed() == 1012
        again = m.Start(resume=ready.resume, last_event=last_event(first), durable=CUT)
        async with resuming(b, again) as (second, resumed):  # type: ignore[arg-type]
            assert (resumed.session, resumed.received) == (ready.session, CUT)
            ended = await finish(second, speech, CUT)
    finals = first.finals + second.finals
    assert [final.event for final in finals] == sorted({final.event or 0 for final in finals})
    assert len({final.utterance for final in finals}) == len(finals) == ended.utterances
    assert all(one.end <= other.start for one, other in pairwise(finals))
    if how is signal.SIGKILL:  # nothing was cut short
        same(finals, await heard_in_one_go(speech))
    assert audio_in(tmp_path, ready.session) == speech


async def test_a_client_that_sends_nothing_is_told_that_its_session_moved(
    tmp_path: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "RENEW_EVERY_S", 0.05)
    async with (
        sharing(tmp_path) as a,
        sharing(tmp_path) as b,
        resuming(a) as (first, ready),
        resuming(b, m.Start(resume=ready.resume)) as (second, resumed),
    ):
        assert resumed.session == ready.session
        assert await first.until_closed() == 4409
        await finish(second, speech, 0)


async def test_a_client_comes_back_to_the_server_that_lost_its_session(tmp_path: Path, speech: bytes) -> None:
    expected = await heard_in_one_go(speech)
    async with sharing(tmp_path) as a, sharing(tmp_path) as b:
        async with resuming(a) as (first, ready):
            await send(first, speech, 0, RATE)
            await durable_up_to(first, RATE)
        await settled(a)
        again = m.Start(resume=ready.resume, last_event=last_event(first), durable=RATE)
        async with resuming(b, again) as (second, resumed):
            await send(second, speech, RATE, CUT)
            await durable_up_to(second, CUT)
        await settled(b)
        seen = max(last_event(first), last_event(second))
        async with resuming(a, m.Start(resume=resumed.resume, last_event=seen, durable=CUT)) as (third, back):
            assert (back.session, back.received) == (ready.session, CUT)
            await finish(third, speech, CUT)
    same(first.finals + second.finals + third.finals, expected)
    assert audio_in(tmp_path, ready.session) == speech


async def test_a_server_releases_its_sessions_when_it_ends(tmp_path: Path) -> None:
    async with sharing(tmp_path) as b:
        async with sharing(tmp_path) as a, resuming(a) as (peer, ready):
            assert b._journal and b._journal._in_use(b._journal._row(ready.session))
            closing = asyncio.create_task(peer.until_closed())
        await asyncio.wait_for(closing, PATIENCE_S)
        assert not b._journal._in_use(b._journal._row(ready.session))


async def test_a_session_that_cannot_be_recovered_is_released(
    tmp_path: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(session: Session, recovered: Recovered) -> None:
        raise DataLoss("sample frames", 0, 1)

    async with sharing(tmp_path) as a, resuming(a) as (first, ready):
        await send(first, speech, 0, RATE)
        await durable_up_to(first, RATE)
    async with sharing(tmp_path) as b:
        assert b._journal
        async with connected(b) as peer:
            with monkeypatch.context() as failing:
                failing.setattr(Session, "restore", damaged)
                await peer.tell(m.Start(resume=ready.resume))
                assert await peer.until_closed() == 4500
            assert not b._journal._in_use(b._journal._row(ready.session))
        async with resuming(b, m.Start(resume=ready.resume)) as (_, resumed):
            assert resumed.received == RATE


async def test_a_session_that_cannot_be_created_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(journal: Journal, session: str) -> None:
        raise DataLoss("sample frames", 0, 1)

    monkeypatch.setattr(Journal, "lease", unreadable)
    async with sharing(tmp_path) as service, connected(service) as peer:
        await peer.tell(m.Start())
        assert await peer.until_closed() == 4500
        assert service._journal
        (row,) = service._journal._catalog.rows()
        assert not service._journal._in_use(row)


def test_a_shared_journal_needs_a_named_folder() -> None:
    with pytest.raises(ConfigError, match="all servers"):
        open_journal(Config(journal=JournalConfig(shared=True)))
