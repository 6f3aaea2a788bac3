"""A link gives what the worker behind it gives, on real sockets."""

from __future__ import annotations

from af3stream.engine.captioning import Hypothesis, NamedSound, Voices
from af3stream.engine.contract import AudioSegment, Text
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    Job,
    ReviseJob,
    SoundJob,
    VoiceJob,
)
from af3stream.engine.scripted import ScriptedEngine, ScriptedSounds
from af3stream.engine.worker import Worker
from tests.cluster.links import Timeline, Told, linked

AUDIO = Timeline()
SECOND = 16_000


def segment(start_s: float, end_s: float) -> AudioSegment:
    start, end = int(start_s * SECOND), int(end_s * SECOND)
    return AudioSegment(start, end, (end - start) // 640)


def every_kind() -> list[Job]:
    window, opened = segment(0, 4), segment(4, 5)
    parts = (window, Text("[0:00] word1 word2.\n"))
    return [
        CaptionJob(0, AUDIO.at(8_000, 24_000), None, final=False, max_tokens=9, start=8_000),
        VoiceJob(AUDIO.at(8_000, 40_000), ((0, 16_000), (16_000, 32_000)), start=8_000),
        CaptionJob(0, AUDIO.at(8_000, 40_000), Hypothesis("word1", (0,)), final=True, max_tokens=9, start=8_000),
        EncodeJob(0, window, AUDIO.at(0, 64_000)),
        ReviseJob(0, AUDIO.at(8_000, 60_000), 9, start=8_000),
        SoundJob(0, window, 40_000, 64_000),
        ExtendJob(parts, rebuild=False),
        AnswerJob((*parts, opened), "What?", 9, prefix=2, samples={opened: AUDIO.at(64_000, 80_000)}),
    ]


def naming() -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.sounds = ScriptedSounds(NamedSound("A bell.", 0.9))
    return engine


def plain(told: Told, job: Job) -> list[object]:
    return [(result.vectors.tolist() if isinstance(result, Voices) else result, done) for result, done in told.of(job)]


async def test_every_kind_of_job_gives_what_the_worker_gives() -> None:
    here, jobs = Told(), every_kind()
    worker = Worker(naming())
    worker.open("s", AUDIO, here.resident)
    for job in jobs:
        worker.submit("s", job, here.report)
        worker.run_all()
    there = Told()
    async with linked(naming()) as (_, link):
        link.open("s", AUDIO, there.resident)
        for job in jobs:
            link.submit("s", job, there.report)
            await there.finished(job)
    for job in jobs:
        assert plain(there, job) == plain(here, job)
    assert there.residents[-1] == here.residents[-1] == {segment(0, 4)}
