"""Schedule a step, have the executor run it, report what came of it. One thread at a time; no locks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from af3stream.config import ModelConfig
from af3stream.engine import memory
from af3stream.engine.caches import Caches
from af3stream.engine.contract import AudioSegment, AudioSource, Engine
from af3stream.engine.embedding_cache import EmbeddingCache
from af3stream.engine.executor import Executor, StepTimeout, ThreadExecutor
from af3stream.engine.jobs import AnswerJob, ExtendJob, Failed, Restarted, Result
from af3stream.engine.kv_cache_manager import KVCacheManager
from af3stream.engine.model_runner import ModelRunner, Output, Outputs
from af3stream.engine.request import Attempt, Request, Status, batch_limit, kv_apart, priority_of
from af3stream.engine.request_traces import RequestTraces
from af3stream.engine.scheduler import Priority, Scheduler, Task
from af3stream.errors import BudgetExceeded
from af3stream.tracing import Tracing

log = logging.getLogger(__name__)

OUT_OF_MEMORY: Final = ("MemoryError", "OutOfMemoryError")  # the second is torch's, which is not imported here
MIB: Final = 1 << 20

Resident = Callable[[frozenset[AudioSegment]], None]  # told which closed windows of a session have embeddings
Work = Task[Request]


class EngineCore:
    """The loop of the engine: `step` schedules, runs and reports one step.

    Attributes:
        scheduler: which request is next.
        caches: which requests have their memory.
        busy_s: seconds that the device has worked.
        due_s: of them, those for what cannot be shed: all but interim captions.
        short_since: since when the most urgent request waits for memory that others have, in clock seconds, or
            ``None``.

    Args:
        limits: how long a step may take, how much memory keys, values and embeddings may, and when they are evicted.
        tracing: makes spans; ``None``: nothing is traced.
    """

    def __init__(self, engine: Engine, limits: ModelConfig, tracing: Tracing | None = None) -> None:
        self._engine = engine
        self._step_timeout_s = limits.step_timeout_s
        embeddings = EmbeddingCache(
            engine.frame_bytes, int(limits.embeddings_budget_mb * MIB), max(limits.drop_after_s, limits.cool_after_s)
        )
        self._runner = ModelRunner(engine, embeddings)
        self._executor: Executor = self._runner
        kv = KVCacheManager(int(limits.kv_budget_mb * MIB), limits.cool_after_s)
        self.caches = Caches(kv, embeddings, lambda job: kv_apart(job, engine))
        self.scheduler: Scheduler[Request] = Scheduler()
        self._traces = RequestTraces(tracing) if tracing else None
        self._tasks: dict[tuple[str, int], Work] = {}  # by session and job
        self._listeners: dict[str, Resident] = {}
        self._sources: dict[str, AudioSource] = {}
        self.busy_s = self.due_s = 0.0
        self.short_since: float | None = None

    @property
    def sessions(self) -> int:
        """Number of open sessions."""
        return len(self._listeners)

    def new_thread(self) -> ThreadExecutor:
        """Run the steps on a thread of their own from now on, within the time limit; the caller stops it."""
        self._executor = executor = ThreadExecutor(self._runner, self._step_timeout_s)
        return executor

    def step(self) -> bool:
        """Do one step; returns whether there was one to do."""
        tasks = self._schedule()
        self._tell_residents()
        if not tasks:
            return False
        began = time.monotonic()
        outputs = self._run(tasks)
        self._charge(tasks, time.monotonic() - began)
        self._report(tasks, outputs)
        return True

    def open(self, session: str, source: AudioSource, resident: Resident) -> None:
        """Begin a session; see `af3stream.engine.worker.Worker.open`."""
        self._listeners[session] = resident
        self._sources[session] = source
        self._executor.open(session, source)
        self.caches.embeddings.open(session, time.monotonic(), evictable=source.rereads)

    def submit(self, request: Request) -> None:
        """Queue a request."""
        if self._traces:
            self._traces.submitted(request)
        self.caches.add(request, time.monotonic())
        self._tasks[request.session, request.job.id] = self.scheduler.submit(
            request.session, priority_of(request.job), request
        )

    def cancel(self, session: str, job: int) -> None:
        """Drop the job with this id, if it is there."""
        if task := self._tasks.get((session, job)):
            self._drop(task, Status.CANCELLED)

    def close(self, session: str) -> None:
        """Drop all of a session."""
        for task in self.scheduler.forget(session):
            self._drop(task, Status.CANCELLED)
        self._listeners.pop(session, None)
        self._sources.pop(session, None)
        self._executor.close(session)
        self.caches.close(session)

    def evict_all(self) -> None:
        """Evict what every request has. Those that run begin again."""
        for task in self._tasks.values():
            if task.work.runs:
                self._executor.cancel(task.work)
                self._requeue(task)
        self.caches.evict_all()

    # ---- schedule ----------------------------------------------------------------------------------------------------

    def _schedule(self) -> list[Work]:
        """Return the tasks of the next step: the most urgent one, and what can share its step."""
        first = self._next()
        if first is None:
            return []
        limit, kind = batch_limit(first.work, self._engine), type(first.work.job)
        if limit == 1:
            return [first]

        def fits(other: Request) -> bool:
            return type(other.job) is kind and batch_limit(other, self._engine) > 1

        return [task for task in self.scheduler.like(first, fits, limit) if self._admit(task)]

    def _next(self) -> Work | None:
        """Return the most urgent task; if it must wait for memory, the most urgent one that runs already."""
        while task := self.scheduler.next(self._may_step):
            try:
                if self._admit(task):
                    self.short_since = None
                    if self._awaits_audio(task):
                        continue
                    return task
                self.short_since = self.short_since or time.monotonic()
                return self.scheduler.next(lambda task: task.work.runs and self._may_step(task))
            except BudgetExceeded as error:
                self._fail([task], error)
        self.short_since = None
        return None

    def _may_step(self, task: Work) -> bool:
        """Whether a task can make a step now: its audio is here, and nothing else writes where it would.

        A prefix is not appended to under an answer.
        """
        job = task.work.job
        if task.work.runs and self._awaits_audio(task):
            return False
        if not isinstance(job, ExtendJob) or job.rebuild:
            return True
        answers = (other for other in self._tasks.values() if isinstance(other.work.job, AnswerJob))
        return not any(other.session == task.session and other.work.runs for other in answers)

    def _awaits_audio(self, task: Work) -> bool:
        """Whether the audio that a task's next step encodes is still on its way. What follows it is brought, too."""
        if (source := self._sources.get(task.session)) is None or not (unread := self._runner.unread(task.work)):
            return False
        together = self._engine.encode_together
        return source.fetch(unread[: 2 * together]) < min(together, len(unread))

    def _admit(self, task: Work) -> bool:
        if task.work.runs:
            return True
        admitted = self.caches.admit(task.work, self._executor.prefix, time.monotonic())
        task.work.move(Status.RUNNING if admitted else Status.WAITING)
        return admitted

    # ---- run ---------------------------------------------------------------------------------------------------------

    def _run(self, tasks: Sequence[Work]) -> Outputs | Exception:
        if self._traces:
            self._traces.began(task.work for task in tasks)
        try:
            return self._executor.run([task.work for task in tasks])
        except Exception as error:  # noqa: BLE001 - whatever fails costs jobs, never the thread
            return error

    def _charge(self, tasks: Sequence[Work], seconds: float) -> None:
        self.busy_s += seconds
        self.due_s += seconds * (tasks[0].priority is not Priority.INTERIM)
        self.scheduler.charge(tasks, seconds)

    # ---- report ------------------------------------------------------------------------------------------------------

    def _report(self, tasks: Sequence[Work], outputs: Outputs | Exception) -> None:
        before = len(self._tasks)
        if isinstance(outputs, StepTimeout):
            self._give_up(tasks)
        elif isinstance(outputs, Exception):
            self._fail(tasks, outputs)
        else:
            failed: list[tuple[Work, Exception]] = []
            for task, output in zip(tasks, outputs, strict=True):
                if isinstance(output, Exception):
                    failed.append((task, output))
                else:
                    self._take(task, output)
            for task, error in failed:  # at last: one that evicts everything sends the others back to the queue
                self._fail([task], error)
        frequent = tasks[0].priority is Priority.INTERIM
        if len(self._tasks) < before and not frequent:  # a job is done
            memory.trim_heap()

    def _take(self, task: Work, output: Output) -> None:
        """Keep what a step gave, and report its result."""
        request, job = task.work, task.work.job
        own = job.samples if isinstance(job, AnswerJob) else {}
        for segment, embeddings in output.encoded.items():
            self.caches.embeddings.store(task.session, segment, embeddings, temporary=segment in own)
        request.move(Status.DECODING if output.decoding else Status.RUNNING)
        if isinstance(output.result, str):
            request.reported += len(output.result)
            if self._traces and output.result:
                self._traces.told(request)
        if output.done:
            self._finish(task, Status.DONE, output.result)
        elif output.result:
            self._tell_residents()
            request.report(job, output.result, False)

    def _finish(self, task: Work, status: Status, result: Result) -> None:
        """End a request, and report its last result."""
        self._drop(task, status)
        if isinstance(job := task.work.job, ExtendJob):
            self.caches.embeddings.keep_from(task.session, job.keep_from)
        self._tell_residents()
        task.work.report(job, result, True)

    def _drop(self, task: Work, status: Status) -> None:
        """End a request, without a report."""
        self.scheduler.finish(task)
        self._tasks.pop((task.session, task.work.job.id), None)
        if task.work.runs:
            self._executor.cancel(task.work)
        self.caches.finish(task.work)
        task.work.move(status)
        if self._traces:
            self._traces.ended(task.work, status)

    def _tell_residents(self) -> None:
        for session in self.caches.embeddings.take_changed():
            if listener := self._listeners.get(session):
                listener(self.caches.embeddings.resident(session))

    # ---- failures ----------------------------------------------------------------------------------------------------

    def _fail(self, tasks: Sequence[Work], error: Exception) -> None:
        """A step failed. If the device ran out of memory, it is done once more, with nothing else kept."""
        kinds, first = [type(task.work.job).__name__ for task in tasks], tasks[0]
        log.warning("jobs failed: session=%s jobs=%s error=%s", first.session, kinds, type(error).__name__)
        if not _is_out_of_memory(error) or first.work.attempt is Attempt.LAST:
            self._lose(tasks, Failed(f"the engine failed: {type(error).__name__}"))
            return
        self.evict_all()
        for task in tasks:
            task.work.attempt = Attempt.LAST
        for task in {task.session: task for task in tasks}.values():
            task.work.report(task.work.job, Restarted(), False)

    def _give_up(self, tasks: Sequence[Work]) -> None:
        """A step hung. The executor has dropped it, with the KV prefixes that it used."""
        log.error("a step hangs: session=%s job=%s", tasks[0].session, type(tasks[0].work.job).__name__)
        for task in tasks:
            if isinstance(task.work.job, ExtendJob | AnswerJob):
                self.caches.kv.forget(task.session)
            self._requeue(task)
        self._lose(tasks, Failed(f"it took longer than {self._step_timeout_s:g} s", timed_out=True))

    def _lose(self, tasks: Sequence[Work], failed: Failed) -> None:
        """Report that a job failed. Of several, one may be to blame: each is tried again by itself."""
        for task in tasks:
            if task.work.attempt is Attempt.FIRST:
                task.work.attempt = Attempt.ALONE
        if len(tasks) == 1:
            self._finish(tasks[0], Status.FAILED, failed)

    def _requeue(self, task: Work) -> None:
        self.caches.release(task.work)
        task.work.move(Status.QUEUED)


def _is_out_of_memory(error: Exception) -> bool:
    return any(kind.__name__ in OUT_OF_MEMORY for kind in type(error).__mro__)
