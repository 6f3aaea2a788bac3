"""The one thread that touches the device: it takes the scheduler's next task, runs one step of it, and reports.

A second thread watches the first: where a step does not end in time, its job is given up, and a new engine thread goes
on without it. The old one cannot be ended; what it still does is for nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from af3stream.config import ModelConfig
from af3stream.engine.contract import Engine
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Failed, Job, Restarted, Result
from af3stream.engine.running import Report, Running, joins, priority_of, steps_of
from af3stream.engine.scheduler import Scheduler, Task
from af3stream.engine.warmth import Warmth
from af3stream.errors import BudgetExceeded

log = logging.getLogger(__name__)

ENCODE_TOGETHER: Final = 4  # waiting windows encoded in one pass
LOOKS: Final = 8  # at a step, within the time it may take
STOP_S: Final = 10.0  # how long `stop` waits for the step under way
OUT_OF_MEMORY: Final = ("MemoryError", "OutOfMemoryError")  # the second is torch's, which is not imported here


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """What the engine does right now."""

    tasks: list[Task[Running]]
    began: float  # clock seconds


class Worker:
    """Runs jobs of many sessions over one engine.

    `start` gives it a thread of its own; without one, `run_all` does the same work in the caller's, unwatched.

    Args:
        limits: how long a step may take, how much memory keys and values may, and when a session is cooled.
    """

    def __init__(self, engine: Engine, limits: ModelConfig | None = None) -> None:
        limits = limits or ModelConfig()
        self.engine = engine
        self._step_timeout_s = limits.step_timeout_s
        self._scheduler: Scheduler[Running] = Scheduler()
        self._warmth = Warmth(engine.context, int(limits.kv_budget_mb * (1 << 20)), limits.cool_after_s)
        self._tasks: dict[Job, Task[Running]] = {}
        self._calls: list[Callable[[], None]] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._under_way: Step | None = None
        self._stopping = threading.Event()
        self.busy_s = 0.0

    def start(self) -> None:
        """Work on a thread from now on."""
        self._begin(None)
        threading.Thread(target=self._watch, name="engine watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop after the step under way, unless it takes too long; what is not done is dropped."""
        with self._wake:
            self._stopping.set()
            self._wake.notify()
        if self._thread:
            self._thread.join(STOP_S)

    def submit(self, session: str, job: Job, report: Report) -> None:
        """Queue a job; ``report`` is called from the engine's thread, in order, the last time with ``done``."""
        self._call(lambda: self._submit(session, job, report))

    def cancel(self, job: Job) -> None:
        """Drop a job, wherever it is; nothing more is reported of it after the step under way."""
        self._call(lambda: self._drop(self._tasks.get(job)))

    def close(self, session: str) -> None:
        """Drop a session's jobs and its context."""
        self._call(lambda: self._close(session))

    def run_all(self) -> None:
        """Work in the caller's thread until nothing is left."""
        while self._step():
            pass

    # ---- threads -----------------------------------------------------------------------------------------------------

    def _call(self, function: Callable[[], None]) -> None:
        with self._wake:
            self._calls.append(function)
            self._wake.notify()

    def _begin(self, hung: Step | None) -> None:
        """Begin an engine thread, which first gives up the step that the last one hangs in."""
        self._thread = threading.Thread(target=self._loop, args=(hung,), name="engine", daemon=True)
        self._thread.start()

    def _loop(self, hung: Step | None) -> None:
        if hung:
            self._give_up(hung.tasks)
        while True:
            with self._wake:
                deadline = self._warmth.next_deadline()
                idle_s = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._wake.wait_for(lambda: self._stopping.is_set() or self._calls or len(self._scheduler), idle_s)
                if self._stopping.is_set():
                    return
            self._warmth.cool_idle(time.monotonic())
            self._step()
            if self._thread is not threading.current_thread():
                return

    def _watch(self) -> None:
        """Replace the engine thread wherever a step of it takes too long."""
        while not self._stopping.wait(self._step_timeout_s / LOOKS):
            with self._wake:
                step = self._under_way
                if step and time.monotonic() > step.began + self._step_timeout_s:
                    self._under_way = None
                    self._begin(step)

    # ---- one step ----------------------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """One step of the most urgent task; false where there was none."""
        with self._wake:
            calls, self._calls = self._calls, []
        for call in calls:
            call()
        task = self._next()
        if task is None:
            return bool(calls)
        step = self._under_way = Step(self._together(task), time.monotonic())
        try:
            outcome: tuple[bool, Result] | Exception = self._advance(step.tasks)
        except Exception as error:  # noqa: BLE001 - whatever fails costs one job, never the thread
            outcome = error
        with self._wake:
            if self._under_way is not step:  # it was given up, and another thread goes on
                return False
            self._under_way = None
        self._charge(step)
        if isinstance(outcome, Exception):
            self._failed(step.tasks, outcome)
        else:
            self._report(step.tasks, *outcome)
        return True

    def _next(self) -> Task[Running] | None:
        """The task whose turn it is; where it must wait for memory, the most urgent of those that have theirs."""
        while task := self._scheduler.next():
            try:
                return task if self._has_room(task) else self._scheduler.next(lambda work: work.steps is not None)
            except BudgetExceeded as error:
                self._failed([task], error)
        return None

    def _has_room(self, task: Task[Running]) -> bool:
        """Begin a job over its session's context, if its keys and values fit; others have no need."""
        job = task.work.job
        if task.work.steps is not None or not isinstance(job, ExtendJob | AnswerJob):
            return True
        kept = self._warmth.use(task.session, time.monotonic())
        asked = (job.question, job.max_tokens) if isinstance(job, AnswerJob) else ("", 0)
        if not self._warmth.promise(kept, job, lambda: kept.context.bytes_for(job.parts, *asked)):
            return False
        task.work.steps = steps_of(task.work, job, kept, self.engine)
        return True

    def _together(self, task: Task[Running]) -> list[Task[Running]]:
        if not joins(task.work):
            return [task]
        return self._scheduler.like(task, joins, ENCODE_TOGETHER)

    def _advance(self, tasks: list[Task[Running]]) -> tuple[bool, Result]:
        job = tasks[0].work.job
        if isinstance(job, EncodeJob):
            self.engine.encode([task.work.job.sound for task in tasks if isinstance(task.work.job, EncodeJob)])
            return True, None
        if isinstance(job, CaptionJob):
            return True, self.engine.captioner.caption(
                job.samples, job.draft, final=job.final, max_tokens=job.max_tokens
            )
        steps = tasks[0].work.steps
        result = next(steps, None) if steps else None
        done = result is None
        return done, result

    # ---- what comes of it --------------------------------------------------------------------------------------------

    def _charge(self, step: Step) -> None:
        spent = time.monotonic() - step.began
        self.busy_s += spent
        for task in step.tasks:
            self._scheduler.charge(task.session, spent / len(step.tasks))

    def _report(self, tasks: list[Task[Running]], done: bool, result: Result) -> None:
        for task in tasks:
            if done:
                self._drop(task)
            if done or result:
                task.work.report(task.work.job, result, done)

    def _failed(self, tasks: list[Task[Running]], error: Exception) -> None:
        """One job is lost; where the device ran out of memory, it is done once more, with nothing else kept."""
        kinds, first = [type(task.work.job).__name__ for task in tasks], tasks[0]
        log.warning("jobs failed: session=%s jobs=%s error=%s", first.session, kinds, type(error).__name__)
        if any(kind.__name__ in OUT_OF_MEMORY for kind in type(error).__mro__) and not first.work.again:
            self._shed()
            for task in tasks:
                task.work.alone = task.work.again = True
            for task in {task.session: task for task in tasks}.values():
                task.work.report(task.work.job, Restarted(), False)
        else:
            self._lose(tasks, Failed(f"the engine failed: {type(error).__name__}"))

    def _give_up(self, tasks: list[Task[Running]]) -> None:
        """Another thread hangs in a step, with the context that belongs to it."""
        log.error("a step hangs: session=%s job=%s", tasks[0].session, type(tasks[0].work.job).__name__)
        for task in tasks:
            if task.work.steps is not None:
                task.work.steps = None
                self._warmth.forget(task.session)
        self._lose(tasks, Failed(f"it took longer than {self._step_timeout_s:g} s", timed_out=True))

    def _lose(self, tasks: list[Task[Running]], failed: Failed) -> None:
        """Tell that a job failed; of several done together one may be to blame, and each is tried again by itself."""
        if len(tasks) == 1:
            self._report(tasks, True, failed)
        for task in tasks:
            task.work.alone = True

    def _shed(self) -> None:
        """Give up all keys and values, those of jobs under way too, which begin again."""
        for task in self._tasks.values():
            self._interrupt(task)
        self._warmth.cool_all()

    def _submit(self, session: str, job: Job, report: Report) -> None:
        self._warmth.touch(session, time.monotonic())
        self._tasks[job] = self._scheduler.submit(session, priority_of(job), Running(job, report))

    def _drop(self, task: Task[Running] | None) -> None:
        if task is None:
            return
        self._scheduler.finish(task)
        self._tasks.pop(task.work.job, None)
        self._interrupt(task)

    def _interrupt(self, task: Task[Running]) -> None:
        """Take back what a job has of its context."""
        steps, task.work.steps = task.work.steps, None
        if steps is not None and hasattr(steps, "close"):
            steps.close()
        self._warmth.release(task.session, task.work.job)

    def _close(self, session: str) -> None:
        for task in self._scheduler.forget(session):
            self._drop(task)
        self._warmth.forget(session)
