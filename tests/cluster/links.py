"""Engines and gateways of one process, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from msgspec.structs import replace

from af3stream.cluster.engine_link import EngineLink
from af3stream.cluster.engine_server import EngineServer
from af3stream.config import EngineConfig, ModelConfig
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, Engine
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import Job, Result
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import DataLoss
from af3stream.tracing import Tracing
from tests.server.peers import PATIENCE_S

KEY = "the key of the engine"
QUICK = EngineConfig(lost_after_s=5.0, keep_s=5.0, read_timeout_s=2.0)


class Timeline:
    """A session's audio, which can be read again.

    Attributes:
        samples: float32 (n,).
        reads: the segments that were read.
        gone: whether nothing can be read.
    """

    rereads = True

    def __init__(self, seconds: float = 120.0, seed: int = 0) -> None:
        self.samples: Samples = np.random.default_rng(seed).standard_normal(int(seconds * 16_000)).astype(np.float32)
        self.reads: list[AudioSegment] = []
        self.gone = False
        self.before_read: Callable[[], None] = lambda: None

    def fetch(self, segments: Sequence[AudioSegment]) -> int:
        return len(segments)

    def read(self, segment: AudioSegment) -> Samples:
        self.before_read()
        self.reads.append(segment)
        if self.gone:
            raise DataLoss("samples", segment.start, segment.end)
        return self.at(segment.start, segment.end)

    def at(self, start: int, end: int) -> Samples:
        return self.samples[start:end]


@dataclass
class Told:
    """What was reported of jobs.

    Attributes:
        results: in order.
        residents: what was told of windows with embeddings, in order.
    """

    results: list[tuple[Job, Result, bool]] = field(default_factory=list)
    residents: list[frozenset[AudioSegment]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self, job: Job, result: Result, done: bool) -> None:
        self.results.append((job, result, done))
        self.changed.set()

    def resident(self, segments: frozenset[AudioSegment]) -> None:
        self.residents.append(segments)
        self.changed.set()

    def of(self, job: Job) -> list[tuple[Result, bool]]:
        return [(result, done) for other, result, done in self.results if other is job]

    def done(self, job: Job) -> bool:
        return any(done for _, done in self.of(job))

    async def until(self, holds: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(seconds):
            while not holds():
                self.changed.clear()
                await asyncio.wait([asyncio.ensure_future(self.changed.wait())], timeout=0.02)

    async def finished(self, *jobs: Job) -> None:
        """Wait until jobs are done."""
        await self.until(lambda: all(self.done(job) for job in jobs))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds, and check it often: nothing reports that it changed."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Running:
    """An engine that serves gateways, as a context manager.

    Attributes:
        engine: what computes.
        worker: what schedules.
        server: what the gateways connect to.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        config: EngineConfig = QUICK,
        model: ModelConfig | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.engine = engine or ScriptedEngine()
        self.worker = Worker(self.engine, model, tracing)
        self.server = EngineServer(self.worker, facts_of(self.engine), KEY, config)
        self._config = config
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.worker.start()
        await self._stack.enter_async_context(self.server.listening("127.0.0.1"))
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()
        await asyncio.to_thread(self.worker.stop)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def link(self, gateway: str = "gateway", **config: Any) -> EngineLink:
        """Connect a gateway."""
        return await EngineLink.connect(self.address, KEY, gateway, replace(self._config, **config))


@asynccontextmanager
async def linked(
    engine: Engine | None = None, config: EngineConfig = QUICK, model: ModelConfig | None = None
) -> AsyncIterator[tuple[Running, EngineLink]]:
    """An engine with one gateway."""
    async with Running(engine, config, model) as running:
        link = await running.link()
        try:
            yield running, link
        finally:
            await link.disconnect()
