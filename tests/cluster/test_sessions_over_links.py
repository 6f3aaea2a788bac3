"""Whole sessions whose engines are at the other end of a link: their words are those of an engine in the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from af3stream.audio import SAMPLE_RATE
from af3stream.cluster.cluster_jobs import ClusterJobs
from af3stream.config import CaptionsConfig, Config, EngineConfig, ModelConfig, QuestionsConfig
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, Engine, Text
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.server.rest.file_session import Engines, FileSession
from af3stream.server.session_runner import Jobs
from tests.audio.audio_scenes import scene_vad
from tests.cluster.links import KEY, Running, Timeline, Told, linked
from tests.cluster.scripted_links import Listener
from tests.cluster.test_engine_link import Gated
from tests.session.conversation import SENTENCE, SILENCE, VOICE, pcm

SCENE = SENTENCE * 3 + VOICE * 5 + SILENCE * 4 + SENTENCE * 2


def blocks(scene: str) -> Iterator[bytes]:
    data = pcm(scene)
    return (data[at : at + 3_200] for at in range(0, len(data), 3_200))


async def told_of(engine: Engine, jobs: Jobs) -> list[m.ServerMessage]:
    """What a session says whose audio is a scene with two speakers, and that is asked one question."""
    config = Config(captions=CaptionsConfig(), questions=QuestionsConfig())
    engines = Engines(config, facts_of(engine, "all"), jobs, Metrics())
    told: list[m.ServerMessage] = []
    with scene_vad():
        session = FileSession(m.Start(speakers=True, words=True), engines, captions_only=False)
    async with session:
        told += [message async for message in session.send(blocks(SCENE), inf)]
        told += [piece async for piece in session.ask("What was said?", 99, told.append)]
        told += [message async for message in session.end()]
    return [message for message in told if isinstance(message, m.Caption | m.Window | m.Ended | m.Answer)]


def words(told: list[m.ServerMessage]) -> list[m.ServerMessage]:
    """What must be equal: each kind of messages in order, without the time that an answer took."""
    timeless = [replace(message, ttft_ms=0) if isinstance(message, m.Answer) else message for message in told]
    return sorted(timeless, key=lambda message: type(message).__name__)


async def test_a_session_says_the_same_over_a_link() -> None:
    engine = ScriptedEngine(window_s=4.0)
    worker = Worker(engine)
    worker.start()
    here = await told_of(engine, worker)
    worker.stop()
    async with linked(ScriptedEngine(window_s=4.0)) as (running, link):
        there = await told_of(running.engine, link)
    assert words(there) == words(here)
    assert len([message for message in there if isinstance(message, m.Window)]) > 4


def segment_of(engine: Engine, start: int, end: int) -> AudioSegment:
    return AudioSegment(start, end, engine.tokens.frames(end - start))


@pytest.mark.parametrize("evicting", [False, True], ids=["resident", "evicted"])
async def test_a_checkpoint_says_the_same_over_a_link(
    tiny_folder: Path, signal: Callable[[float, int], Samples], evicting: bool
) -> None:
    from af3stream.engine.af3.checkpoint import load_checkpoint
    from af3stream.engine.af3.engine import Af3Engine

    engine = Af3Engine(load_checkpoint(tiny_folder, ModelConfig(threads=1)), "tiny")
    audio = Timeline()
    audio.samples = np.concatenate([signal(3.0, 0), signal(2.0, 1)])
    windows = [segment_of(engine, 0, 3 * SAMPLE_RATE), segment_of(engine, 3 * SAMPLE_RATE, 5 * SAMPLE_RATE)]
    parts = (windows[0], Text("[0:00] Notes.\n"), windows[1])
    first = [
        CaptionJob(0, audio.at(8_000, 40_000), None, final=True, max_tokens=12, start=8_000),
        *(EncodeJob(i, window, audio.read(window)) for i, window in enumerate(windows)),
        ExtendJob(parts[:2], rebuild=False),
    ]
    ask = AnswerJob(parts, "What was said?", 16, prefix=0 if evicting else 2)
    here, there = Told(), Told()
    worker = Worker(engine)
    worker.open("s", audio, here.resident)
    for job in (*first, ask):
        worker.submit("s", job, here.report)
        worker.run_all()
    async with linked(engine) as (running, link):
        link.open("s", audio, there.resident)
        for job in first:
            link.submit("s", job, there.report)
            await there.finished(job)
        if evicting:
            running.worker.evict_all()
        link.submit("s", ask, there.report)
        await there.finished(ask)
    for job in first:
        assert there.of(job) == here.of(job)
    spoken = ["".join(result for result, _ in told.of(ask) if isinstance(result, str)) for told in (here, there)]
    assert spoken[0] == spoken[1] != ""
    if not evicting:
        assert there.of(ask) == here.of(ask)


async def test_an_answer_goes_on_at_another_engine_if_its_own_is_lost() -> None:
    engines, told = (Gated(), Gated()), Told()
    job = AnswerJob((Text("Hello."),), "What is said here?", 9)
    async with Running(engines[0]) as first, Running(engines[1]) as second:
        cluster = ClusterJobs(Listener(), 60.0)
        for name, running in (("first", first), ("second", second)):
            cluster.add(name, "all", await running.link())
        cluster.open("s", Timeline(), told.resident)
        cluster.submit("s", job, told.report)
        await told.until(lambda: bool(told.of(job)))
        lost = first.server if cluster.sessions_at("first") else second.server
        lost._gateways["gateway"].channel.abort()
        for engine in engines:
            engine.gate.set()
        await told.finished(job)
        cluster.close("s")
    pieces = [result for result, _ in told.of(job) if isinstance(result, str)]
    assert "".join(pieces) == "What is said here? <- Hello."
    assert told.of(job)[-1] == (None, True)


async def test_a_backlog_longer_than_the_queue_of_a_link_is_done_over_it() -> None:
    config, told = EngineConfig(queue_mb=1, credit_mb=1), Told()
    cluster = ClusterJobs(Listener(), 60.0)
    audio = Timeline(seconds=10.0).samples  # float32: 640 kB
    jobs = {f"s{i}": [CaptionJob(k, audio, None, True, 9) for k in range(3)] for i in range(6)}
    for session, mine in jobs.items():
        cluster.open(session, Timeline(1.0), told.resident)
        for job in mine:
            cluster.submit(session, job, told.report)
    async with Running(config=config) as running:
        lost: list[str] = []
        link = await running.link()
        cluster.add("engine", "all", link, lambda: lost.append("engine"))
        await told.finished(*(job for mine in jobs.values() for job in mine))
        assert not lost
        for mine in jobs.values():
            assert [job for job, _, done in told.results if done and job in mine] == mine
        await link.disconnect()


def test_a_gateway_imports_no_model() -> None:
    code = f"""
import asyncio, sys
import af3stream.server.service, af3stream.cluster.cluster_jobs
from af3stream.cluster.engine_link import EngineLink, LinkError
from af3stream.config import EngineConfig

async def main():
    try:
        await EngineLink.connect("127.0.0.1:9", {KEY!r}, "gateway", EngineConfig())
    except LinkError:
        print(*{{"torch", "transformers", "ctranslate2", "faster_whisper", "ray"}} & set(sys.modules))

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
