"""The one thread that touches the device: it takes the scheduler's next task, runs one step of it, and reports."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from af3stream.engine.contract import Context, Engine, Sound
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Failed, Job, Result
from af3stream.engine.scheduler import Priority, Scheduler, Task

log = logging.getLogger(__name__)

ENCODE_TOGETHER = 4  # waiting windows encoded in one pass

Report = Callable[[Job, Result, bool], None]  # job, result, whether the job is done


class Running:
    """A job on its way: its steps, and where its results go."""

    def __init__(self, job: Job, report: Report) -> None:
        self.job = job
        self.report = report
        self.steps: Iterator[Result] | None = None
        self.alone = False  # it failed together with others


class Worker:
    """Runs jobs of many sessions over one engine.

    `start` gives it a thread of its own; without one, `run_all` does the same work in the caller's.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._scheduler: Scheduler[Running] = Scheduler()
        self._contexts: dict[str, Context] = {}
        self._tasks: dict[Job, Task[Running]] = {}
        self._calls: list[Callable[[], None]] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self.busy_s = 0.0

    def start(self) -> None:
        """Work on a thread from now on."""
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the step under way; what is not done is dropped."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread:
            self._thread.join()

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

    def _call(self, function: Callable[[], None]) -> None:
        with self._wake:
            self._calls.append(function)
            self._wake.notify()

    def _loop(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._calls or len(self._scheduler))
                if self._stopping:
                    return
            self._step()

    def _step(self) -> bool:
        """One step of the most urgent task; false where there was none."""
        with self._wake:
            calls, self._calls = self._calls, []
        for call in calls:
            call()
        task = self._scheduler.next()
        if task is None:
            return bool(calls)
        began = time.perf_counter()
        tasks = self._together(task)
        try:
            done, result = self._advance(tasks)
        except Exception as error:  # noqa: BLE001 - whatever fails costs one job, never the thread
            log.warning("job failed: session=%s job=%s error=%r", task.session, type(task.work.job).__name__, error)
            done, result = True, Failed(f"the engine failed: {type(error).__name__}")
            if len(tasks) > 1:  # one of them may be to blame: each is tried again by itself
                done, result = False, None
                for each in tasks:
                    each.work.alone = True
        spent = time.perf_counter() - began
        self.busy_s += spent
        for each in tasks:
            self._scheduler.charge(each.session, spent / len(tasks))
            if done:
                self._drop(each)
            if done or result:
                each.work.report(each.work.job, result, done)
        return True

    def _together(self, task: Task[Running]) -> list[Task[Running]]:
        if not _joins(task.work):
            return [task]
        return self._scheduler.like(task, _joins, ENCODE_TOGETHER)

    def _advance(self, tasks: list[Task[Running]]) -> tuple[bool, Result]:
        job = tasks[0].work.job
        if isinstance(job, EncodeJob):
            self.engine.encode([task.work.job.sound for task in tasks if isinstance(task.work.job, EncodeJob)])
            return True, None
        if isinstance(job, CaptionJob):
            return True, self.engine.captioner.caption(
                job.samples, job.draft, final=job.final, max_tokens=job.max_tokens
            )
        running = tasks[0].work
        if running.steps is None:
            running.steps = self._steps(tasks[0].session, job)
        result = next(running.steps, None)
        done = result is None
        return done, result

    def _steps(self, session: str, job: ExtendJob | AnswerJob) -> Iterator[Result]:
        """A job's steps; each yields something that is not ``None``."""
        context = self._contexts.setdefault(session, self.engine.context())
        self.engine.encode([part for part in job.parts if isinstance(part, Sound)])
        yield ""
        if isinstance(job, AnswerJob):
            yield from context.answer(job.parts, job.question, job.max_tokens)
        else:
            for _ in context.extend(job.parts):
                yield ""

    def _submit(self, session: str, job: Job, report: Report) -> None:
        self._tasks[job] = self._scheduler.submit(session, priority_of(job), Running(job, report))

    def _drop(self, task: Task[Running] | None) -> None:
        if task is None:
            return
        self._scheduler.finish(task)
        self._tasks.pop(task.work.job, None)
        steps = task.work.steps
        if steps is not None and hasattr(steps, "close"):
            steps.close()

    def _close(self, session: str) -> None:
        for task in self._scheduler.forget(session):
            self._drop(task)
        self._contexts.pop(session, None)


def _joins(running: Running) -> bool:
    """Whether a job may be done together with others."""
    return isinstance(running.job, EncodeJob) and not running.alone


def priority_of(job: Job) -> Priority:
    """How urgent a job is."""
    match job:
        case CaptionJob(final=True):
            return Priority.FINAL
        case CaptionJob():
            return Priority.INTERIM
        case AnswerJob():
            return Priority.ANSWER
        case _:
            return Priority.CATCH_UP
