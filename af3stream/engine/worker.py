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
from af3stream.engine import memory
from af3stream.engine.contract import AudioSegment, Engine
from af3stream.engine.embedding_cache import EmbeddingCache
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    Failed,
    Job,
    Restarted,
    Result,
    ReviseJob,
    VoiceJob,
)
from af3stream.engine.kv_cache_manager import KVCacheManager
from af3stream.engine.request import (
    Report,
    Request,
    encode,
    hear_voices,
    most_together,
    parts_of,
    priority_of,
    steps_of,
)
from af3stream.engine.scheduler import Priority, Scheduler, Task
from af3stream.errors import BudgetExceeded

log = logging.getLogger(__name__)

LOOKS: Final = 8  # at a step, within the time it may take
STOP_S: Final = 10.0  # how long `stop` waits for the step under way
OUT_OF_MEMORY: Final = ("MemoryError", "OutOfMemoryError")  # the second is torch's, which is not imported here


Outcome = tuple[bool, Result] | Exception  # whether the job is done, and its result


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """What the engine does right now."""

    tasks: list[Task[Request]]
    began: float  # clock seconds


class Worker:
    """Runs jobs of many sessions over one engine.

    `start` gives it a thread of its own; without one, `run_all` does the same work in the caller's, unwatched.

    Attributes:
        busy_s: seconds that the device has worked.
        due_s: of them, those for what cannot be shed: all but interim captions.
        short_since: since when the most urgent job waits for memory that others have, in clock seconds, or ``None``.

    Args:
        limits: how long a step may take, how much memory keys, values and embeddings may, and when they are given up.
    """

    def __init__(self, engine: Engine, limits: ModelConfig | None = None) -> None:
        limits = limits or ModelConfig()
        self.engine = engine
        self._step_timeout_s = limits.step_timeout_s
        self._scheduler: Scheduler[Request] = Scheduler()
        embeddings = EmbeddingCache(
            engine.frame_bytes,
            int(limits.embeddings_budget_mb * (1 << 20)),
            max(limits.drop_after_s, limits.cool_after_s),
        )
        self._warmth = KVCacheManager(
            engine.context, int(limits.kv_budget_mb * (1 << 20)), limits.cool_after_s, embeddings
        )
        self._tasks: dict[Job, Task[Request]] = {}
        self._calls: list[Callable[[], None]] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._under_way: Step | None = None
        self._stopping = threading.Event()
        self.busy_s = self.due_s = 0.0
        self.short_since: float | None = None

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

    def detach(self, session: str) -> None:
        """Nobody listens to a session: do its jobs only when no other session has any."""
        self._call(lambda: self._scheduler.detach(session))

    def attach(self, session: str) -> None:
        """Somebody listens to a session again: its jobs have their turn."""
        self._call(lambda: self._scheduler.attach(session))

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
        before = len(self._tasks)
        step = self._under_way = Step(self._together(task), time.monotonic())
        try:
            outcomes: list[Outcome] | Exception = self._advance(step.tasks)
        except Exception as error:  # noqa: BLE001 - whatever fails costs one job, never the thread
            outcomes = error
        with self._wake:
            if self._under_way is not step:  # it was given up, and another thread goes on
                return False
            self._under_way = None
        self._charge(step)
        if isinstance(outcomes, Exception):
            self._failed(step.tasks, outcomes)
            return True
        for task, outcome in zip(step.tasks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._failed([task], outcome)
            else:
                self._report([task], *outcome)
        if len(self._tasks) < before:  # a job is done
            memory.trim_heap()
        return True

    def _next(self) -> Task[Request] | None:
        """The task whose turn it is; where it must wait for memory, the most urgent of those that have theirs."""
        while task := self._scheduler.next(self._may_step):
            try:
                if self._has_room(task):
                    self.short_since = None
                    return task
                self.short_since = self.short_since or time.monotonic()
                return self._scheduler.next(lambda task: task.work.steps is not None and self._may_step(task))
            except BudgetExceeded as error:
                self._failed([task], error)
        self.short_since = None
        return None

    def _may_step(self, task: Task[Request]) -> bool:
        """Whether nothing else writes where this task would: the prefix is not appended to under an answer."""
        job = task.work.job
        if not isinstance(job, ExtendJob) or job.rebuild:
            return True
        return not any(other.session == task.session and other.work.answer for other in self._tasks.values())

    def _has_room(self, task: Task[Request]) -> bool:
        """Begin a job that leaves something in memory, if that fits; others have no need."""
        job, now = task.work.job, time.monotonic()
        if task.work.steps is not None or isinstance(job, CaptionJob | ReviseJob | VoiceJob):
            return True
        if isinstance(job, EncodeJob):
            return self._warmth.embeddings.reserve(task.session, job, [job.sound], now)
        kept = self._warmth.use(task.session, now)
        asked = (job.question, job.max_tokens, job.earlier) if isinstance(job, AnswerJob) else ()
        if not self._warmth.reserve(
            kept, job, lambda: kept.context.bytes_for(parts_of(task.work, kept.context), *asked)
        ):
            return False
        sounds = [part for part in parts_of(task.work, kept.context) if isinstance(part, AudioSegment)]
        if not self._warmth.embeddings.reserve(task.session, job, sounds, now):
            self._warmth.release(task.session, job)
            return False
        task.work.steps = steps_of(task.work, job, kept, self.engine)
        return True

    def _together(self, task: Task[Request]) -> list[Task[Request]]:
        """A task and what can be done in the same step."""
        most = most_together(task.work, self.engine)
        if most == 1:
            return [task]
        kind = type(task.work.job)
        tasks = self._scheduler.like(task, lambda w: type(w.job) is kind and most_together(w, self.engine) > 1, most)
        return [other for other in tasks if self._has_room(other)]

    def _advance(self, tasks: list[Task[Request]]) -> list[Outcome]:
        """One step of tasks done together."""
        job = tasks[0].work.job
        if isinstance(job, EncodeJob):
            encode([task.work.job.sound for task in tasks if isinstance(task.work.job, EncodeJob)], self.engine)
            return [(True, None)] * len(tasks)
        if isinstance(job, CaptionJob):
            heard = self.engine.captioner.caption(job.samples, job.draft, final=job.final, max_tokens=job.max_tokens)
            return [(True, heard)]
        if isinstance(job, ReviseJob):
            return [(True, self.engine.captioner.caption(job.samples, None, final=True, max_tokens=job.max_tokens))]
        if isinstance(job, VoiceJob):
            return [(True, hear_voices(job, self.engine))]
        answers = [task.work.answer for task in tasks if task.work.answer]
        if len(answers) > 1:
            self.engine.decode_batch(answers)
        return [_next_step(task.work) for task in tasks]

    # ---- what comes of it --------------------------------------------------------------------------------------------

    def _charge(self, step: Step) -> None:
        spent = time.monotonic() - step.began
        self.busy_s += spent
        self.due_s += spent * (step.tasks[0].priority is not Priority.INTERIM)
        self._scheduler.charge(step.tasks, spent)

    def _report(self, tasks: list[Task[Request]], done: bool, result: Result) -> None:
        for task in tasks:
            if done:
                self._drop(task)
            if done or result:
                task.work.report(task.work.job, result, done)

    def _failed(self, tasks: list[Task[Request]], error: Exception) -> None:
        """One job is lost; where the device ran out of memory, it is done once more, with nothing else kept."""
        kinds, first = [type(task.work.job).__name__ for task in tasks], tasks[0]
        log.warning("jobs failed: session=%s jobs=%s error=%s", first.session, kinds, type(error).__name__)
        if any(kind.__name__ in OUT_OF_MEMORY for kind in type(error).__mro__) and not first.work.retried:
            self._shed()
            for task in tasks:
                task.work.retry_solo = task.work.retried = True
            for task in {task.session: task for task in tasks}.values():
                task.work.report(task.work.job, Restarted(), False)
        else:
            self._lose(tasks, Failed(f"the engine failed: {type(error).__name__}"))

    def _give_up(self, tasks: list[Task[Request]]) -> None:
        """Another thread hangs in a step, with the context that belongs to it."""
        log.error("a step hangs: session=%s job=%s", tasks[0].session, type(tasks[0].work.job).__name__)
        for task in tasks:
            if task.work.steps is not None:
                task.work.steps = task.work.answer = None
                self._warmth.forget(task.session)
        self._lose(tasks, Failed(f"it took longer than {self._step_timeout_s:g} s", timed_out=True))

    def _lose(self, tasks: list[Task[Request]], failed: Failed) -> None:
        """Tell that a job failed; of several done together one may be to blame, and each is tried again by itself."""
        if len(tasks) == 1:
            self._report(tasks, True, failed)
        for task in tasks:
            task.work.retry_solo = True

    def _shed(self) -> None:
        """Give up all keys and values, those of jobs under way too, which begin again."""
        for task in self._tasks.values():
            self._interrupt(task)
        self._warmth.cool_all()

    def _submit(self, session: str, job: Job, report: Report) -> None:
        self._warmth.touch(session, time.monotonic())
        self._tasks[job] = self._scheduler.submit(session, priority_of(job), Request(job, report))

    def _drop(self, task: Task[Request] | None) -> None:
        if task is None:
            return
        self._scheduler.finish(task)
        self._tasks.pop(task.work.job, None)
        self._interrupt(task)

    def _interrupt(self, task: Task[Request]) -> None:
        """Take back what a job has of its context."""
        steps, task.work.steps = task.work.steps, None
        if steps is not None:
            steps.close()
        self._warmth.release(task.session, task.work.job)

    def _close(self, session: str) -> None:
        for task in self._scheduler.forget(session):
            self._drop(task)
        self._warmth.forget(session)


def _next_step(running: Request) -> Outcome:
    """One step of a job that has several."""
    try:
        result = next(running.steps, None) if running.steps else None
    except Exception as error:  # noqa: BLE001 - it costs this job, and none that is done together with it
        return error
    return result is None, result
