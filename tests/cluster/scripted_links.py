"""Engines of a cluster in the test's own thread: each is a worker over the scripted engine, and can be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from msgspec.structs import replace

from af3stream.cluster.cluster_jobs import ClusterJobs
from af3stream.cluster.placement import Role
from af3stream.cluster.wire import EngineLoad
from af3stream.config import ModelConfig
from af3stream.engine.contract import AudioSource
from af3stream.engine.engine_core import Resident
from af3stream.engine.jobs import Job
from af3stream.engine.request import Report
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.metrics import Reason


class ScriptedLink:
    """An engine that works when `step` is called.

    Attributes:
        submitted: the jobs that it was given.
        opened: the sessions that it has.
        fullness: of the queue of its link; it is sent before each step.
        job_share: how much of the queue a job takes.
    """

    def __init__(self, model: ModelConfig | None = None, job_share: float = 0.0) -> None:
        self.load = EngineLoad()
        self.engine = ScriptedEngine()
        self.worker = Worker(self.engine, model)
        self.submitted: list[Job] = []
        self.opened: dict[str, bool] = {}  # and whether they are attached
        self.fullness, self.job_share = 0.0, job_share
        self._on_lost: Callable[[], None] = lambda: None
        self._on_emptied: Callable[[], None] = lambda: None
        self._lost = False

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._on_lost = callback

    def on_emptied(self, callback: Callable[[], None]) -> None:
        self._on_emptied = callback

    def lose(self) -> None:
        """The engine is gone, with what it knew."""
        self._lost = True
        self._on_lost()

    def report(self, **load: object) -> None:
        """Report another load."""
        self.load = replace(self.load, **load)

    def on_superseded(self, callback: Callable[[str], None]) -> None:
        self.supersede = callback

    def open(self, session: str, source: AudioSource, resident: Resident, fence: int = 0) -> None:
        assert not self._lost and session not in self.opened
        self.opened[session] = True
        self.worker.open(session, source, resident)

    def submit(self, session: str, job: Job, report: Report) -> None:
        assert not self._lost and session in self.opened
        self.fullness += self.job_share
        assert self.fullness <= 1, "the link would be given up"
        self.submitted.append(job)
        self.worker.submit(session, job, report)

    def cancel(self, session: str, job: int) -> None:
        assert not self._lost
        self.worker.cancel(session, job)

    def attach(self, session: str) -> None:
        assert not self._lost
        self.opened[session] = True
        self.worker.attach(session)

    def detach(self, session: str) -> None:
        assert not self._lost
        self.opened[session] = False
        self.worker.detach(session)

    def close(self, session: str) -> None:
        assert not self._lost
        del self.opened[session]
        self.worker.close(session)

    def step(self) -> bool:
        """Do one step; returns whether there was one to do."""
        if self._lost:
            return False
        sent, self.fullness = self.fullness > 0, 0.0
        self._on_emptied()
        return self.worker.step() or sent


class Listener:
    """What was told of sessions."""

    def __init__(self) -> None:
        self.places: list[tuple[str, Reason]] = []
        self.taken: list[str] = []

    def placed(self, session: str, fence: int, engine: str, reason: Reason) -> None:
        self.places.append((engine, reason))

    def superseded(self, session: str) -> None:
        self.taken.append(session)


class ScriptedCluster(ClusterJobs):
    """A gateway's jobs, and the engines that do them, one step of each at a time.

    Attributes:
        links: the engines that are not lost, by name.
        faults: called before each step, by its number.
    """

    def __init__(self, *roles: Role, wait_s: float = 60.0, rebuild_wait_s: float = 2.0, job_share: float = 0.0) -> None:
        self.listener = Listener()
        super().__init__(self.listener, wait_s, rebuild_wait_s)
        self.links: dict[str, ScriptedLink] = {}
        self._job_share = job_share
        self.faults: Callable[[int], None] = lambda _: None
        self._names = count(1)
        self.steps = 0
        for role in roles:
            self.join(role)

    def join(self, role: Role = "all", model: ModelConfig | None = None, **load: object) -> str:
        """Add an engine; returns its name."""
        name = f"engine-{next(self._names)}"
        link = self.links[name] = ScriptedLink(model, self._job_share)
        link.report(**load)
        self.add(name, role, link)
        return name

    def lose(self, name: str) -> None:
        """Lose an engine."""
        self.links.pop(name).lose()

    def step(self) -> bool:
        """Have every engine do one step; returns whether there was one to do."""
        self.faults(self.steps)
        self.steps += 1
        worked = [link.step() for link in list(self.links.values())]
        return any(worked)

    def run_all(self) -> None:
        """Work until nothing is left."""
        while self.step():
            pass

    def holding(self, session: str) -> Iterator[str]:
        """The engines that have a session."""
        return (name for name, link in self.links.items() if session in link.opened)
