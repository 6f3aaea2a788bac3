"""What operators see of a gateway whose engines are in a cluster: readiness, metrics and traces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider

from af3stream.cluster.cluster_jobs import NO_ENGINE, NO_ROOM
from af3stream.cluster.engine_address import EngineAddress
from af3stream.config import Config, JournalConfig, ServerConfig
from af3stream.protocol import messages as m
from af3stream.server.cluster_backend import joined
from af3stream.server.service import Service
from af3stream.tracing import Tracing
from tests.cluster.links import KEY, QUICK, Running, until
from tests.server.peers import get, talking
from tests.server.test_sessions import speak
from tests.test_tracing import collected


@asynccontextmanager
async def gateway(folder: Path, *engines: Running, tracing: Tracing | None = None) -> AsyncIterator[Service]:
    """A gateway that knows these engines as `engine-0`, `engine-1` and so on."""
    addresses = [EngineAddress(f"engine-{i}", each.address, KEY, "all", 0) for i, each in enumerate(engines)]

    async def watch(seen: Callable[[list[EngineAddress]], None]) -> None:
        seen(addresses)
        await asyncio.Event().wait()

    config = Config(ServerConfig(port=0), journal=JournalConfig(folder=str(folder), shared=True), engine=QUICK)
    async with joined(config, watch) as backend, Service(config, backend, tracing).listening() as service:
        yield service


async def readings(service: Service) -> dict[str, float]:
    """The gateway's metrics, by name and labels."""
    body = (await get(service, "/metrics"))[2].decode()
    return {
        name: float(value) for name, value in (line.rsplit(" ", 1) for line in body.splitlines() if line[:1] != "#")
    }


async def test_gateway_without_an_engine_is_not_ready(tmp_path: Path) -> None:
    async with Running() as engine, gateway(tmp_path, engine) as service:
        assert (await get(service, "/readyz"))[0] == 200
        await engine.__aexit__()
        await until(lambda: not service.backend.engines)
        status, _, body = await get(service, "/readyz")
        assert (status, body.decode()) == (503, f"{NO_ENGINE}\n")
        assert (await readings(service))['af3stream_engine_up{engine="engine-0"}'] == 0


async def test_gateway_is_ready_for_clients_that_resume_although_no_engine_takes_new_sessions(tmp_path: Path) -> None:
    async with Running() as engine, gateway(tmp_path, engine) as service:
        engine.server.drain()
        await until(lambda: service.backend.refusal() == NO_ROOM)
        assert (await get(service, "/readyz"))[0] == 200


async def test_placements_and_engines_are_measured(tmp_path: Path) -> None:
    async with (
        Running() as first,
        Running() as second,
        gateway(tmp_path, first, second) as service,
        talking(service) as peer,
    ):
        await speak(peer)
        await peer.tell(m.Ask("q", "What?"))
        await peer.until(m.Answer)
        await until(lambda: any(load.busy_s for load in service.backend.jobs.engines.values()))
        value = await readings(service)
    assert value['af3stream_engine_up{engine="engine-0"}'] == value['af3stream_engine_up{engine="engine-1"}'] == 1
    at = [value[f'af3stream_engine_sessions{{engine="engine-{i}"}}'] for i in range(2)]
    assert sorted(at) == [0, 1] and value['af3stream_placements_total{reason="new"}'] == 1
    assert value[f'af3stream_engine_device_seconds{{engine="engine-{at.index(1)}"}}'] > 0


async def test_a_trace_has_the_spans_of_the_gateway_and_of_the_engine(tmp_path: Path) -> None:
    here, there = collected(TracerProvider()), collected(TracerProvider())
    async with (
        Running(tracing=there.tracing) as engine,
        gateway(tmp_path, engine, tracing=here.tracing) as service,
        talking(service) as peer,
    ):
        await speak(peer)
        await peer.tell(m.Flush("f"))
        await peer.until(m.Flushed)
        await peer.tell(m.Ask("q", "What?"))
        await peer.until(m.Answer)
    for name, own, remote in (
        ("utterance", {"receive", "commit"}, {"queue", "decode"}),
        ("question", {"wait", "commit"}, {"queue", "prefill", "decode"}),
    ):
        trace = here.named(name).context.trace_id
        assert {span.name for span in here.all if span.context.trace_id == trace} == own | {name}
        assert {span.name for span in there.all if span.context.trace_id == trace} == remote
    for spans in (here, there):
        spans.tracing.close()
