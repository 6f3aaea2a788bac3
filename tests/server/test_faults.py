"""A disk, a journal, an engine or a line of ours fails: one session is told so, and another one's captions go on."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from af3stream.config import JournalConfig, ModelConfig
from af3stream.engine.contract import Engine
from af3stream.engine.jobs import AnswerJob, Job
from af3stream.engine.scripted import ScriptedEngine
from af3stream.errors import StorageError
from af3stream.journal.journal import Journal
from af3stream.protocol import messages as m
from af3stream.server import service as service_module
from af3stream.server.load import Load
from af3stream.server.session_runner import SessionRunner
from af3stream.session.session import Session
from tests.engine.test_hangs_and_memory import Full
from tests.journal.scenes import disk_of, failing
from tests.server.conftest import Said, bounded_memory, captions
from tests.server.peers import PATIENCE_S, connected, serving, settled, still_there, talking
from tests.server.test_resume import audio_in, durable_up_to
from tests.server.test_sessions import FRAMES, RATE, SPEECH, SlowEngine, speak


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "storage_full"), (errno.EIO, "storage_error")])
async def test_a_disk_that_refuses(number: int, code: str, tmp_path: Path, undisturbed: Callable[..., Any]) -> None:
    async with undisturbed(journal=tmp_path) as service, talking(service) as peer:
        with failing("audio-written", OSError(number, "no"), times=10_000):
            await speak(peer)
            await peer.until(m.Error)
        await peer.tell(m.End(FRAMES))
        await peer.until(m.Ended)
    assert [(error.code, error.fatal, error.retryable) for error in peer.of(m.Error)] == [(code, False, True)]
    assert audio_in(tmp_path, peer.of(m.Ready)[0].session) == SPEECH


async def test_a_disk_that_is_really_full(tmp_path: Path, undisturbed: Callable[..., Any]) -> None:
    lasting = SlowEngine(1.5)  # the other session is there before the disk is full
    total = 5 * FRAMES
    with disk_of(8, tmp_path / "small") as disk:
        journal = JournalConfig(folder=str(disk / "journal"), reserve_mb=0)
        async with undisturbed(lasting, journal=journal) as service, talking(service) as peer:
            async with asyncio.timeout(PATIENCE_S):
                while service.sessions < 2:  # noqa: ASYNC110 - the other one comes by itself
                    await asyncio.sleep(0.01)
            (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - (64 << 10)))
            for at in range(0, total, FRAMES):
                await speak(peer, at=at)
            while (ack := await peer.until(m.Ack)).received < total:
                pass
            assert ack.durable is not None and ack.durable < total
            (disk / "ballast").unlink()
            await peer.tell(m.End(total))
            assert (await peer.until(m.Ended)).total == total
        assert audio_in(Path(journal.folder), peer.of(m.Ready)[0].session) == 5 * SPEECH
    assert {(error.code, error.fatal, error.retryable) for error in peer.of(m.Error)} == {("storage_full", False, True)}


async def test_a_journal_that_is_damaged_below_what_was_acknowledged(
    tmp_path: Path, undisturbed: Callable[..., Any]
) -> None:
    async with serving(journal=tmp_path) as service, talking(service) as peer:
        await peer.tell(m.Audio(0, SPEECH[: 2 * RATE]))
        await durable_up_to(peer, RATE)
        peer.socket.transport.abort()
        await settled(service)
    (ready,) = peer.of(m.Ready)
    segment = max((tmp_path / "sessions" / ready.session).iterdir(), key=lambda file: file.stat().st_size)
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    segment.write_bytes(damaged)
    async with undisturbed(journal=tmp_path) as service, connected(service) as late:
        await late.tell(m.Start(resume=ready.resume))
        assert await late.until_closed() == 4500
    assert [error.code for error in late.of(m.Error)] == ["data_loss"]


class Hanging(ScriptedEngine):
    """Hangs in one answer for two seconds; everything else is as usual."""

    def context(self, embeddings):  # type: ignore[no-untyped-def]
        context = super().context(embeddings)
        plain = context.answer

        def answer(parts, question, max_tokens, earlier=()):  # type: ignore[no-untyped-def]
            if question == "Hang":
                time.sleep(2)
            yield from plain(parts, question, max_tokens)

        context.answer = answer
        return context


@pytest.mark.parametrize(
    ("engine", "question", "code"),
    [(Hanging, "Hang", "engine_timeout"), (partial(Full, 1), "One two three", "engine_restart")],
)
async def test_an_engine_that_fails(engine: Callable[[], Engine], question: str, code: str, expected: Said) -> None:
    async with serving(engine(), model=ModelConfig(step_timeout_s=0.3)) as service, talking(service) as peer:
        await speak(peer, SPEECH[: 20 * RATE])
        await peer.tell(m.Ask("q", question))
        with bounded_memory():
            while not (errors := peer.of(m.Error)):
                await peer.hear()
            await peer.tell(m.Ask("r", "What?"))
            while (await peer.until(m.Answer)).id != "r":
                pass
            assert await captions(service) == expected
    assert [(error.code, error.fatal, error.retryable) for error in errors] == [(code, False, True)]
    assert {answer.id for answer in peer.of(m.Answer)} == ({"r"} if code == "engine_timeout" else {"q", "r"})


async def test_our_own_mistakes_close_one_connection(
    undisturbed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receive = SessionRunner.receive

    def mistaken(host: SessionRunner, message: m.ClientMessage, *owner: Any) -> None:
        if isinstance(message, m.Unwatch):
            raise ZeroDivisionError
        receive(host, message, *owner)

    monkeypatch.setattr(SessionRunner, "receive", mistaken)
    caplog.set_level(logging.CRITICAL, "af3stream.server.service.wire")
    async with undisturbed() as service, talking(service) as peer:
        await peer.tell(m.Unwatch("w"))
        assert await peer.until_closed() == 1011


async def test_our_own_mistakes_with_what_the_engine_says_do_too(
    undisturbed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = Session.complete

    def mistaken(session: Session, job: Job, *report: Any) -> None:
        if isinstance(job, AnswerJob):
            raise ZeroDivisionError
        complete(session, job, *report)

    monkeypatch.setattr(Session, "complete", mistaken)
    async with undisturbed() as service, talking(service) as peer:
        await speak(peer)
        await peer.tell(m.Ask("q", "What?"))
        assert await peer.until_closed() == 1011


async def test_a_chore_that_fails_once_is_done_again(
    tmp_path: Path, undisturbed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def failing_first(name: str, chore: Any) -> Any:
        def do(*given: Any) -> Any:
            done.append(name)
            if done.count(name) == 1:
                raise StorageError
            return chore(*given)

        return do

    for name in ("LOOK_EVERY_S", "SWEEP_EVERY_S"):
        monkeypatch.setattr(service_module, name, 0.02)
    monkeypatch.setattr(Journal, "sweep", failing_first("sweep", Journal.sweep))
    monkeypatch.setattr(Load, "overload", failing_first("look", Load.overload))
    async with undisturbed(journal=tmp_path) as service, talking(service) as peer:
        async with asyncio.timeout(PATIENCE_S):
            while min(done.count("sweep"), done.count("look")) < 2:  # noqa: ASYNC110 - chores tell nobody
                await asyncio.sleep(0.01)
        await still_there(peer)
    assert caplog.text.count("a periodic task failed") == 2


async def test_a_wall_clock_that_jumps_a_day(
    tmp_path: Path, undisturbed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    async with undisturbed(journal=tmp_path) as service, talking(service) as peer:
        await speak(peer)
        for day in (86_400, -86_400):
            monkeypatch.setattr(time, "time", lambda day=day: real() + day)
            await still_there(peer)
        await peer.tell(m.End(FRAMES))
        assert (await peer.until(m.Ended)).total == FRAMES
