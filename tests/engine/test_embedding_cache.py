"""Embeddings that were dropped change what an answer costs, never what it says; and they stay within their budget."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from weakref import WeakSet

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.config import ModelConfig
from af3stream.engine.af3.checkpoint import LoadedCheckpoint, load_checkpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, Embeddings, Engine, Text
from af3stream.engine.embedding_cache import EmbeddingCache
from af3stream.engine.jobs import AnswerJob, EncodeJob, ExtendJob, Failed, Job, Result
from af3stream.engine.scripted import FRAME_BYTES, ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import BudgetExceeded
from tests.engine.conftest import model_config
from tests.engine.test_worker import SECOND, SILENCE, Reports, encode_job, second, silent_worker

SESSIONS = "abc"
QUESTION = "What was said?"
MIB = 1 << 20


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedCheckpoint:
    return load_checkpoint(tiny_folder, model_config(threads=1))


class Recording:
    """Windows one after the other, which can be read again."""

    rereads = True

    def __init__(self) -> None:
        self._windows: dict[AudioSegment, Samples] = {}
        self._end = 0

    def add(self, engine: Engine, samples: Samples) -> AudioSegment:
        segment = AudioSegment(self._end, self._end + len(samples), engine.tokens.frames(len(samples)))
        self._end = segment.end
        self._windows[segment] = samples
        return segment

    def fetch(self, segments: Sequence[AudioSegment]) -> int:
        return len(segments)

    def read(self, segment: AudioSegment) -> Samples:
        return self._windows[segment]


class Noting(Af3Engine):
    """Knows the embeddings that it made and that are still there."""

    def __init__(self, tiny: LoadedCheckpoint) -> None:
        super().__init__(tiny, "tiny")
        self.embeddings = WeakSet[torch.Tensor]()

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        encoded = super().encode(windows)
        self.embeddings.update(tensor for tensor in encoded if isinstance(tensor, torch.Tensor))
        return encoded


class Talks:
    """Three sessions that are encoded, kept and asked, one after the other; looked at after each step."""

    def __init__(self, tiny: LoadedCheckpoint, signal: Callable[[float, int], Samples], model: ModelConfig) -> None:
        self.engine = Noting(tiny)
        self.audio = Recording()
        self.worker = Worker(self.engine, model)
        self.most = 0
        self.windows = {
            name: [self.audio.add(self.engine, signal(seconds, i)) for seconds in (1.5, 2.5, 1.0)]
            for i, name in enumerate(SESSIONS)
        }
        self.resident = dict.fromkeys(SESSIONS, frozenset[AudioSegment]())
        for name in SESSIONS:
            self.worker.open(name, self.audio, partial(self.resident.__setitem__, name))

    @property
    def tokens(self) -> int:
        """Projected frames of one session."""
        return sum(segment.tokens for segment in self.windows["a"])

    @property
    def taken(self) -> int:
        """Bytes of embeddings that are there."""
        return sum(tensor.nbytes for tensor in self.engine.embeddings)

    def do(self, **jobs: Job) -> dict[str, str]:
        """Have jobs done, one a session; returns what was said."""
        said = dict.fromkeys(jobs, "")

        def report(name: str, result: Result) -> None:
            assert not isinstance(result, Failed)
            said[name] += result if isinstance(result, str) else ""

        for name, job in jobs.items():
            self.worker.submit(name, job, lambda _, result, done, name=name: report(name, result))  # type: ignore[misc]
        while self.worker.step():
            self.most = max(self.most, self.taken)
        return said

    def run(self) -> list[str]:
        answers = []
        for i in range(3):
            for name, windows in self.windows.items():
                self.do(**{name: EncodeJob(i, windows[i], self.audio.read(windows[i]))})
        for question in (QUESTION, "Who spoke last, and where?"):
            for name, windows in self.windows.items():
                self.do(**{name: ExtendJob(tuple(windows[:2]), rebuild=False)})
            jobs = {name: AnswerJob(tuple(windows), question, 6) for name, windows in self.windows.items()}
            answers += self.do(**jobs).values()
            self.worker.evict_all()
        return answers


@pytest.mark.device
@pytest.mark.parametrize("bodies", [1.0, 2.5])
def test_within_a_budget_the_same_is_said(
    tiny: LoadedCheckpoint, signal: Callable[[float, int], Samples], bodies: float
) -> None:
    plenty = Talks(tiny, signal, ModelConfig())
    expected = plenty.run()
    body = plenty.tokens * plenty.engine.frame_bytes
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
    frame_bytes = Af3Engine(tiny, "tiny").frame_bytes
    budget = Talks(tiny, signal, ModelConfig()).tokens * frame_bytes
    talks = Talks(tiny, signal, ModelConfig(embeddings_budget_mb=budget / MIB))
    windows = talks.windows["a"]
    ask = AnswerJob(tuple(windows), QUESTION, 6)
    talks.do(a=ExtendJob(tuple(windows[:2]), rebuild=False))
    before = talks.do(a=ask)["a"]
    assert talks.engine.counters.sounds_encoded == 3
    others = ExtendJob(tuple(talks.windows["b"]), rebuild=False)
    talks.do(b=others)  # which leaves no room for those of the first
    assert not talks.resident["a"]
    assert talks.do(a=AnswerJob(tuple(windows), QUESTION, 6))["a"] == before
    assert talks.engine.counters.sounds_encoded == 7  # of the first the third alone: the others are read already
    talks.worker.evict_all()
    assert talks.do(a=AnswerJob(tuple(windows), QUESTION, 6))["a"] == before
    assert talks.engine.counters.sounds_encoded == 10


# ---- the worker ------------------------------------------------------------------------------------------------------


def test_a_session_without_work_for_long_gives_up_its_embeddings() -> None:
    engine, reports = ScriptedEngine(), Reports()
    worker = Worker(engine, ModelConfig(cool_after_s=0.05, drop_after_s=0.1))
    resident = queue.SimpleQueue[frozenset[AudioSegment]]()
    worker.open("s", SILENCE, resident.put)
    job, kept = encode_job(), encode_job()
    worker.start()
    worker.submit("s", job, reports)
    worker.submit("t", kept, reports)  # a session that is not open: its audio cannot be read again
    reports.wait_for(job, kept)
    assert resident.get(timeout=10) == {job.segment}
    assert not resident.get(timeout=10)
    assert worker.embedding_bytes == 25 * FRAME_BYTES
    again = AnswerJob((job.segment,), "What?", 9)
    worker.submit("s", again, reports)
    reports.wait_for(again)
    worker.stop()
    assert engine.counters.sounds_encoded == 3


def test_jobs_wait_for_the_embeddings_that_another_reads() -> None:
    engine, reports = ScriptedEngine(), Reports()
    worker = silent_worker(engine, ModelConfig(embeddings_budget_mb=3 * 25 * FRAME_BYTES / MIB))
    first, last = (AnswerJob((second(), second()), "one two three four", 9) for _ in "ab")
    worker.submit("a", first, reports)
    worker.submit("b", last, reports)
    waited = []
    while worker.step():
        waited.append(worker.short_since)
    assert reports.finished == [first, last]
    assert any(waited) and worker.short_since is None
    assert not any(isinstance(result, Failed) for _, result, _ in reports.all)


def test_a_body_that_does_not_fit_alone_fails_alone() -> None:
    engine, reports = ScriptedEngine(), Reports()
    worker = silent_worker(engine, ModelConfig(embeddings_budget_mb=25 * FRAME_BYTES / MIB))
    small, large = AnswerJob((second(),), "What?", 9), AnswerJob((second(), second()), "What?", 9)
    for job in (large, small):
        worker.submit("a", job, reports)
        worker.run_all()
    assert reports.of(large) == [(Failed("the engine failed: BudgetExceeded"), True)]
    assert reports.finished == [large, small]


def test_a_device_without_memory_is_given_all_of_it_back() -> None:
    class Full(ScriptedEngine):
        def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
            if self.counters.encoder_passes == 2:
                self.counters.encoder_passes += 1
                raise MemoryError
            return super().encode(windows)

    worker, reports, resident = Worker(Full()), Reports(), list[frozenset[AudioSegment]]()
    worker.open("s", SILENCE, resident.append)
    for i in range(3):
        worker.submit("s", job := encode_job(i), reports)
        worker.run_all()
    assert job in reports.finished
    assert resident[-1] == {job.segment}


def test_the_open_window_leaves_nothing_behind() -> None:
    engine, reports, tail = ScriptedEngine(), Reports(), second()
    worker = silent_worker(engine)
    worker.submit("s", job := AnswerJob((tail,), "What?", 9, samples={tail: SECOND}), reports)
    worker.run_all()
    assert "".join(result for result, _ in reports.of(job) if isinstance(result, str)) == "What? <- 1s"
    assert worker.embedding_bytes == 0


@pytest.mark.usefixtures("even_steps")
def test_windows_that_left_the_context_window_are_dropped_once_no_question_reads_them() -> None:
    engine, reports, old, new = ScriptedEngine(), Reports(), encode_job(0), encode_job(1)
    worker = silent_worker(engine)
    for job in (old, new):
        worker.submit("s", job, reports)
    worker.run_all()
    worker.submit("t", ExtendJob((Text("z"),), rebuild=False), reports)
    worker.run_all()  # how long such a step takes is known
    asked = AnswerJob((old.segment, new.segment), "many words " * 30, 60)
    rebuild = ExtendJob((new.segment,), rebuild=True, keep_from=new.segment.start)
    for job in (asked, rebuild):
        worker.submit("s", job, reports)
    while rebuild not in reports.finished:
        worker.step()
    assert worker.embedding_bytes == 2 * 25 * FRAME_BYTES
    worker.run_all()
    assert reports.finished[-1] == asked and worker.embedding_bytes == 25 * FRAME_BYTES


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
    for name in range(4):
        embeddings.open(str(name), now, evictable=True)
    under_way: dict[int, tuple[int, list[AudioSegment]]] = {}
    for act, which, number in acts:
        sounds = sessions[which]
        if act == "encode":
            start = sounds[-1].end if sounds else 0
            sounds.append(AudioSegment(start, start + 1, 1 + number % 3))
        elif act == "forget":
            del sounds[: min(number % 4, len(sounds) - 1)]
            embeddings.keep_from(str(which), sounds[0].start if sounds else 0)
        elif act == "pass":
            now += number / 4
            embeddings.evict_idle(now)
        elif act == "finish" and under_way:
            job = list(under_way)[number % len(under_way)]
            embeddings.finish(str(under_way.pop(job)[0]), job)
        elif act == "ask" and sounds:
            read = sounds[-1 - number % len(sounds) :]
            job = AnswerJob(tuple(read), "", 1).id
            try:
                if embeddings.reserve(str(which), job, read, now):
                    under_way[job] = which, read
            except BudgetExceeded:
                assert sum(sound.tokens for sound in read) > budget and not under_way
        for name, read in under_way.values():  # which may encode what they read at any time
            for segment in read:
                embeddings.store(str(name), segment, "made")
        taken = sum(segment.tokens for name in range(4) for segment in embeddings.resident(str(name)))
        assert taken <= embeddings.bytes <= budget


class Interrupting(AudioSegment, frozen=True):
    """Runs what waits when it is looked up: the moment at which another thread goes on."""

    def __hash__(self) -> int:
        while waiting:
            waiting.pop()()
        return hash((self.start, self.end))


waiting: list[Callable[[], None]] = []


def test_size_is_read_while_another_thread_changes_the_cache() -> None:
    cache, segment = EmbeddingCache(FRAME_BYTES, 0, 60.0), Interrupting(0, 16_000, 25)
    cache.open("a", 0.0, evictable=True)
    cache.store("a", segment, None)
    for change in (
        lambda: cache.open("b", 0.0, evictable=True),
        lambda: cache.store("a", AudioSegment(16_000, 32_000, 25), None),
        lambda: cache.close("a"),
    ):
        waiting.append(change)
        assert cache.bytes >= FRAME_BYTES * segment.tokens
    assert cache.bytes == 0
