"""Whether one more session fits: measured, forecast, told to those who are there, and refused to those who are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest

from af3stream.config import ServerConfig
from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.journal import disk
from af3stream.protocol import messages as m
from af3stream.server import service as service_module
from af3stream.server.load import Done, Load, Now, resident_bytes
from tests.server.peers import Peer, connected, get, serving, settled, still_there, talking
from tests.server.test_admission import refused, stream_url
from tests.server.test_sessions import RATE, SPEECH, speak

WELL = Now(sessions=1, lags_s=[0.0], short_of_memory=False, storing=True, resident_bytes=1 << 30)


def load(*done: tuple[float, float, float], **config: Any) -> Load:
    """Measured at these times: seconds of the device, seconds of audio."""
    measured = Load(ServerConfig(**config))
    for each in done:
        measured.note(Done(*each))
    return measured


def test_who_knows_nothing_yet_admits() -> None:
    assert Load(ServerConfig()).refusal(WELL) is None
    assert load((0, 0, 0), (1, 1, 9)).refusal(WELL) is None  # 9 s of audio say little


@pytest.mark.parametrize(("sessions", "admitted"), [(0, True), (1, True), (2, True), (3, False), (9, False)])
def test_one_more_session_must_fit_the_device_in_real_time(sessions: int, admitted: bool) -> None:
    measured = load((0, 0, 0), (30, 9, 30))  # 0.3 s of the device for a second of audio
    assert measured.cost == pytest.approx(0.3)
    assert (measured.refusal(replace(WELL, sessions=sessions)) is None) == admitted
    assert load((0, 0, 0), (30, 9, 30), admit_busy=0).refusal(replace(WELL, sessions=sessions)) is None


def test_an_empty_house_takes_the_first_session_whatever_the_last_one_cost() -> None:
    measured = load((0, 0, 0), (60, 60, 30))
    assert measured.cost == 2
    assert measured.refusal(replace(WELL, sessions=0)) is None
    assert measured.refusal(WELL) is not None


def test_the_last_minute_counts_and_silence_changes_nothing() -> None:
    measured = load((0, 0, 0), (30, 30, 30))
    assert measured.cost == 1
    for at in range(31, 151, 10):
        measured.note(Done(at, 30 + (at - 30) / 10, 30 + (at - 30)))
    assert measured.cost == pytest.approx(0.1)
    for at in range(151, 400, 10):
        measured.note(Done(at, 42, 150))
    assert measured.cost == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (replace(WELL, resident_bytes=(500 << 20) + 1), "memory is taken"),
        (replace(WELL, short_of_memory=True), "engine's memory"),
        (replace(WELL, storing=False), "no room is left to store"),
        (replace(WELL, lags_s=[31, 40]), "every session is behind"),
        (replace(WELL, lags_s=[31, 29]), None),
        (replace(WELL, lags_s=[100]), None),  # one that pushes a file is behind for itself alone
        (WELL, None),
    ],
)
def test_what_makes_the_sessions_there_suffer(now: Now, reason: str | None) -> None:
    bound = 0 if now.resident_bytes == WELL.resident_bytes else 500
    measured = load(memory_mb=bound)
    told = measured.overload(now)
    assert (told is None) == (reason is None)
    assert reason is None or reason in (told or "")
    assert measured.refusal(now) == told


def test_resident_memory_is_known_on_linux() -> None:
    before = resident_bytes()
    with mmap(-1, 64 << 20) as fresh:  # the allocator might give what it has
        fresh.write(b"x" * len(fresh))
        assert resident_bytes() - before > 48 << 20


# ---- at the door -----------------------------------------------------------------------------------------------------


async def assert_refused_for(service: Any, reason: str) -> None:
    response = await refused(stream_url(service))
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert reason in (response.body or b"").decode()


async def told(peer: Peer, level: str) -> None:
    while (await peer.until(m.Degraded)).level != level:
        pass


async def test_no_memory_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "LOOK_EVERY_S", 0.02)
    async with serving(memory_mb=1 << 20) as service, talking(service) as peer:
        monkeypatch.setattr(service_module, "resident_bytes", lambda: 1 << 41)
        await told(peer, "sessions_refused")
        await assert_refused_for(service, "memory is taken")
        await speak(peer, SPEECH[: 4 * RATE])  # who is there goes on
        await still_there(peer)
        monkeypatch.setattr(service_module, "resident_bytes", lambda: 0)
        await told(peer, "none")
        async with talking(service):
            pass


async def test_no_disk_no_session_but_the_old_one_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "LOOK_EVERY_S", 0.02)
    async with serving(journal=tmp_path) as service:
        async with talking(service) as peer:
            monkeypatch.setattr(disk.Space, "holds", lambda self, size: False)
            await told(peer, "sessions_refused")
            await assert_refused_for(service, "no room is left")
            resume = peer.of(m.Ready)[0].resume
            peer.socket.transport.abort()
        await settled(service)
        async with talking(service, m.Start(resume=resume)) as again:
            assert again.of(m.Ready)[0].session == peer.of(m.Ready)[0].session


class Laborious(ScriptedEngine):
    """Needs the device for as long as what it hears lasts, divided by 20."""

    def __init__(self) -> None:
        super().__init__()
        hear = self.captioner.hear

        def slowly(request: CaptionRequest) -> Hypothesis:
            time.sleep(len(request.samples) / 16_000 / 20)
            return hear(request)

        self.captioner.hear = slowly  # type: ignore[method-assign]


async def test_no_device_time_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "LOOK_EVERY_S", 0.02)
    async with serving(Laborious(), admit_busy=0.06) as service, talking(service, m.Start(interims=False)) as peer:
        for _ in range(5):
            await speak(peer, SPEECH, at=peer_sent(peer))
            await still_there(peer)
        await peer.tell(m.Flush("f"))
        await peer.until(m.Window)
        await asyncio.sleep(0.1)
        await assert_refused_for(service, "no time for another")
        assert not peer.of(m.Degraded)  # who is there does not suffer
        measured = (await get(service, "/metrics"))[2].decode()
        shares = [line.split()[1] for line in measured.splitlines() if line.startswith("af3stream_device_share ")]
        assert [float(share) > 0.04 for share in shares] == [True]


def peer_sent(peer: Peer) -> int:
    flushed: Sequence[m.Flushed] = peer.of(m.Flushed)
    return flushed[-1].received if flushed else 0


async def test_no_room_for_embeddings_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as service, connected(service):
        short_since = time.monotonic() - 3
        monkeypatch.setattr(Worker, "short_since", property(lambda _: short_since))
        await assert_refused_for(service, "engine's memory")
        short_since = time.monotonic()  # that may happen
        async with talking(service):
            pass
