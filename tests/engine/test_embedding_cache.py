"""Embeddings that were dropped change what an answer costs, never what it says; and they stay within their budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.config import ModelConfig
from af3stream.engine.af3.checkpoint import LoadedCheckpoint, load_checkpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.contract import AudioSegment, Samples
from af3stream.engine.embedding_cache import EmbeddingCache
from af3stream.engine.jobs import AnswerJob, EncodeJob, ExtendJob, Failed, Job, Result
from af3stream.engine.scripted import FRAME_BYTES, ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import BudgetExceeded
from tests.engine.conftest import model_config
from tests.engine.test_worker import Reports

SESSIONS = "abc"
QUESTION = "What was said?"
MIB = 1 << 20


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedCheckpoint:
    return load_checkpoint(tiny_folder, model_config(threads=1))


def window(samples: Samples, engine: Af3Engine | ScriptedEngine) -> AudioSegment:
    """A closed window whose samples can be read again."""
    return AudioSegment(samples, engine.frames(len(samples)), again=lambda: samples)


def silent(seconds: int = 1) -> AudioSegment:
    return window(np.zeros(16_000 * seconds, np.float32), ScriptedEngine())


class Talks:
    """Three sessions that are encoded, kept and asked, one after the other; looked at after each step."""

    def __init__(self, tiny: LoadedCheckpoint, signal: Callable[[float, int], Samples], model: ModelConfig) -> None:
        self.engine = Af3Engine(tiny, "tiny")
        self.worker = Worker(self.engine, model)
        self.most = 0
        self.windows = {
            name: [window(signal(seconds, i), self.engine) for seconds in (1.5, 2.5, 1.0)]
            for i, name in enumerate(SESSIONS)
        }

    @property
    def taken(self) -> int:
        """Bytes of embeddings that are there."""
        sounds = [sound for windows in self.windows.values() for sound in windows]
        return sum(sound.embeddings.nbytes for sound in sounds if isinstance(sound.embeddings, torch.Tensor))

    def do(self, **jobs: Job) -> dict[str, str]:
        """Have jobs done, one a session; returns what was said."""
        said = dict.fromkeys(jobs, "")

        def report(name: str, result: Result) -> None:
            assert not isinstance(result, Failed)
            said[name] += result if isinstance(result, str) else ""

        for name, job in jobs.items():
            self.worker.submit(name, job, lambda _, result, done, name=name: report(name, result))  # type: ignore[misc]
        while self.worker._step():
            self.most = max(self.most, self.taken)
        return said

    def run(self) -> list[str]:
        answers = []
        for i in range(3):
            for name, windows in self.windows.items():
                self.do(**{name: EncodeJob(i, windows[i])})
        for question in (QUESTION, "Who spoke last, and where?"):
            for name, windows in self.windows.items():
                self.do(**{name: ExtendJob(tuple(windows[:2]), rebuild=False)})
            jobs = {name: AnswerJob(tuple(windows), question, 6) for name, windows in self.windows.items()}
            answers += self.do(**jobs).values()
            self.worker._warmth.cool_all()
        return answers


@pytest.mark.device
@pytest.mark.parametrize("bodies", [1.0, 2.5])
def test_within_a_budget_the_same_is_said(
    tiny: LoadedCheckpoint, signal: Callable[[float, int], Samples], bodies: float
) -> None:
    plenty = Talks(tiny, signal, ModelConfig())
    expected = plenty.run()
    body = sum(sound.tokens for sound in plenty.windows["a"]) * plenty.engine.frame_bytes
    assert plenty.most == len(SESSIONS) * body  # what is counted is what is there
    budget = round(bodies * body)
    tight = Talks(tiny, signal, ModelConfig(embeddings_budget_mb=budget / MIB))
    assert tight.run() == expected
    assert 0.5 * budget < tight.most <= budget
    assert tight.engine.counters.sounds_encoded > plenty.engine.counters.sounds_encoded


@pytest.mark.device
def test_what_is_kept_as_keys_and_values_is_not_encoded_again(
    tiny: LoadedCheckpoint, signal: Callable[[float, int], Samples]
) -> None:
    talks = Talks(tiny, signal, ModelConfig())
    windows = talks.windows["a"]
    ask = AnswerJob(tuple(windows), QUESTION, 6)
    talks.do(a=ExtendJob(tuple(windows[:2]), rebuild=False))
    before = talks.do(a=ask)["a"]
    assert talks.engine.counters.sounds_encoded == 3
    talks.worker._warmth.embeddings.drop_all()
    assert talks.taken == 0
    assert talks.do(a=AnswerJob(tuple(windows), QUESTION, 6))["a"] == before
    assert talks.engine.counters.sounds_encoded == 4  # the third alone: the others are read already
    talks.worker._warmth.cool_all()
    assert talks.do(a=AnswerJob(tuple(windows), QUESTION, 6))["a"] == before
    assert talks.engine.counters.sounds_encoded == 7


# ---- the worker ------------------------------------------------------------------------------------------------------


def test_a_session_without_work_for_long_gives_up_its_embeddings() -> None:
    engine, reports = ScriptedEngine(), Reports()
    worker = Worker(engine, ModelConfig(cool_after_s=0.05, drop_after_s=0.1))
    sound, tail = silent(), AudioSegment(np.zeros(16_000, np.float32), 25)
    jobs = [EncodeJob(0, sound), EncodeJob(1, tail)]
    worker.start()
    for job in jobs:
        worker.submit("s", job, reports)
    reports.wait_for(*jobs)
    patience = time.monotonic() + 10
    while sound.embeddings is not None and time.monotonic() < patience:
        time.sleep(0.01)
    assert sound.embeddings is None
    assert tail.embeddings is not None  # it cannot be made again
    again = AnswerJob((sound,), "What?", 9)
    worker.submit("s", again, reports)
    reports.wait_for(again)
    worker.stop()
    assert engine.counters.sounds_encoded == 3


def test_jobs_wait_for_the_embeddings_that_another_reads() -> None:
    engine, reports = ScriptedEngine(), Reports()
    worker = Worker(engine, ModelConfig(embeddings_budget_mb=3 * 25 * FRAME_BYTES / MIB))
    first, second = (AnswerJob((silent(), silent()), "one two three four", 9) for _ in "ab")
    worker.submit("a", first, reports)
    worker.submit("b", second, reports)
    waited = []
    while worker._step():
        waited.append(worker.short_since)
    assert reports.finished == [first, second]
    assert any(waited) and worker.short_since is None
    assert not any(isinstance(result, Failed) for _, result, _ in reports.all)


def test_a_body_that_does_not_fit_alone_fails_alone() -> None:
    engine, reports = ScriptedEngine(), Reports()
    worker = Worker(engine, ModelConfig(embeddings_budget_mb=25 * FRAME_BYTES / MIB))
    small, large = AnswerJob((silent(),), "What?", 9), AnswerJob((silent(), silent()), "What?", 9)
    for job in (large, small):
        worker.submit("a", job, reports)
        worker.run_all()
    assert reports.of(large) == [(Failed("the engine failed: BudgetExceeded"), True)]
    assert reports.finished == [large, small]


def test_a_device_without_memory_is_given_all_of_it_back() -> None:
    class Full(ScriptedEngine):
        def encode(self, sounds):  # type: ignore[no-untyped-def]
            if self.counters.encoder_passes == 2:
                self.counters.encoder_passes += 1
                raise MemoryError
            super().encode(sounds)

    engine, reports = Full(), Reports()
    worker, sounds = Worker(engine), [silent() for _ in range(3)]
    for i, sound in enumerate(sounds):
        worker.submit("s", job := EncodeJob(i, sound), reports)
        worker.run_all()
    assert job in reports.finished
    assert [sound.embeddings for sound in sounds] == [None, None, "1s"]


# ---- the rules alone -------------------------------------------------------------------------------------------------

ACTS = st.lists(
    st.tuples(st.sampled_from(["ask", "finish", "encode", "forget", "pass"]), st.integers(0, 3), st.integers(0, 30)),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(3, 12), ACTS)
def test_the_budget_is_never_exceeded(budget: int, acts: list[tuple[str, int, int]]) -> None:
    embeddings, now = EmbeddingCache(1, budget, drop_after_s=5.0), 0.0
    sessions: list[list[AudioSegment]] = [[] for _ in range(4)]
    under_way: dict[Job, tuple[int, list[AudioSegment]]] = {}
    for act, which, number in acts:
        sounds = sessions[which]
        if act == "encode":
            sounds.append(AudioSegment(None, 1 + number % 3, again=lambda: np.zeros(0, np.float32)))
        elif act == "forget":
            del sounds[: number % 4]
        elif act == "pass":
            now += number / 4
            embeddings.drop_idle(now)
        elif act == "finish" and under_way:
            job = list(under_way)[number % len(under_way)]
            embeddings.release(str(under_way.pop(job)[0]), job)
        elif act == "ask" and sounds:
            read = sounds[-1 - number % len(sounds) :]
            job = AnswerJob(tuple(read), "", 1)
            try:
                if embeddings.reserve(str(which), job, read, now):
                    under_way[job] = which, read
            except BudgetExceeded:
                assert sum(sound.tokens for sound in read) > budget and not under_way
        for _, read in under_way.values():  # which may encode what they read at any time
            for sound in read:
                sound.embeddings = sound.embeddings or "made"
        taken = sum(sound.tokens for sounds in sessions for sound in sounds if sound.embeddings)
        assert taken <= embeddings.bytes <= budget
