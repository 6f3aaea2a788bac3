"""Cooling changes what an answer costs, never what it says; and what is written stays within the budget, always."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from weakref import WeakSet

import pytest

from af3stream.config import ModelConfig
from af3stream.engine.af3.checkpoint import LoadedCheckpoint, load_checkpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.kv import Slot
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import PromptPart
from af3stream.engine.jobs import AnswerJob, ExtendJob, Job, Result
from tests.engine.conftest import new_worker, parts_of

QUESTIONS = ("What was said?", "Who spoke last, and where?")
TOKENS = 12
SESSIONS = "abc"
MIB = 1 << 20


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedCheckpoint:
    return load_checkpoint(tiny_folder, ModelConfig())


def written(slots: WeakSet[Slot]) -> int:
    """Bytes of keys and values that were ever written in slots that are still there."""
    return sum(slot.nbytes // slot.capacity * slot.written for slot in slots)


class Talks:
    """Three sessions that grow, are asked, and forget; looked at after each step of the worker."""

    def __init__(self, engine: Af3Engine, signal: Callable[[float, int], Samples], budget_mb: float) -> None:
        self.look: Callable[[], None] = lambda: None
        self.answers: list[str] = []
        self._worker = new_worker(engine, ModelConfig(kv_budget_mb=budget_mb))
        self._engine = engine
        self._windows = {
            name: parts_of(engine, [signal(4.0, i), signal(6.5, i + 5)]) for i, name in enumerate(SESSIONS)
        }

    def run(self) -> list[str]:
        """What every question is answered with."""
        for name, windows in self._windows.items():
            for end in (1, 2):
                self._do({name: ExtendJob(tuple(windows[:end]), rebuild=False)})
        for question in QUESTIONS:
            self._ask(lambda windows: windows, question)
        self._ask(lambda windows: windows[1:], QUESTIONS[0])  # only the last window
        self._do({name: ExtendJob(tuple(windows[1:]), rebuild=True) for name, windows in self._windows.items()})
        self._ask(lambda windows: windows[1:], QUESTIONS[1])
        return self.answers

    def _ask(self, scope: Callable[[list[PromptPart]], list[PromptPart]], question: str) -> None:
        jobs = {name: AnswerJob(tuple(scope(windows)), question, TOKENS) for name, windows in self._windows.items()}
        texts = self._do(jobs)
        self.answers += [texts[name] for name in SESSIONS]

    def _do(self, jobs: dict[str, Job]) -> dict[str, str]:
        texts = dict.fromkeys(jobs, "")
        done: list[str] = []

        def report(name: str, result: Result, last: bool) -> None:
            texts[name] += result if isinstance(result, str) else ""
            done.extend([name] * last)

        for name, job in jobs.items():
            self._worker.submit(name, job, lambda job, result, last, name=name: report(name, result, last))  # type: ignore[misc]
        while self._worker.step():
            self.look()
        assert sorted(done) == sorted(jobs)
        return texts


def run(
    tiny: LoadedCheckpoint, signal: Callable[[float, int], Samples], slots: WeakSet[Slot], budget: int
) -> tuple[list[str], int]:
    """What is answered within so many bytes, and the most that were written at any time."""
    talks, peaks = Talks(Af3Engine(tiny, "tiny"), signal, budget / MIB), [0]
    talks.look = lambda: peaks.append(written(slots))
    return talks.run(), max(peaks)


@pytest.mark.parametrize("sessions", [1.4, 2.5])
def test_within_a_budget_the_same_is_said(
    tiny: LoadedCheckpoint, signal: Callable[[float, int], Samples], slots: WeakSet[Slot], sessions: float
) -> None:
    expected, most = run(tiny, signal, slots, budget=0)
    assert not slots
    budget = round(most / len(SESSIONS) * sessions)  # so many sessions fit
    said, peak = run(tiny, signal, slots, budget)
    assert said == expected
    assert 0.5 * budget < peak <= budget
