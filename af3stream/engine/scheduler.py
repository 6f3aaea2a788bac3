"""Decide which task gets the next step on the device. Pure: no clock, no thread, no engine.

The order is: final captions, answers, final captions of sessions that are far behind, catch-up, interim captions. Of
one kind, the session with the least device time for that kind goes first; of one session, the oldest task. So a session
that asks many questions waits longer for answers, but not for captions. A task runs step by step, and the scheduler
decides again after each step, so a final caption never waits for a whole answer.

A caption that has begun goes on before the other captions of its kind, until its session had `SLICE_S` more than the
others. So of short captions that are due at once the first is not as late as the last, and a long one gives way.

A session that had no task of a kind starts level with the one that was served last. So sessions that keep up are served
in the order in which they come, whatever each was given before (self-clocked fair queueing: S. J. Golestani, 1994).

While there is always more urgent work, less urgent tasks get a **background share**: at most `BACKGROUND_SHARE` of the
time that the urgent work takes. A background step only follows a step of the urgent kind, so a new final waits for the
step under way and no other. So a rebuild makes progress beside a long answer, and hardly delays it. Interims have a
share of their own beside answers and catch-up, `INTERIM_SHARE`, so that words are shown while a window is read. Beside
final captions they have none, because their finals replace them.

A session can be **detached**: its client is gone, and its audio is durable. Its tasks run only when no other session
has a task, never share a step with another session's, and have no background share. So detached sessions cost the
others at most the step that is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Generic, TypeVar

T = TypeVar("T")

BACKGROUND_SHARE: Final = 0.16  # of the urgent work's device time; steps vary, so it is set below a fifth
SLICE_S: Final = 0.5  # of device time; most captions of Whisper take less
INTERIM_SHARE: Final = 0.25  # of the time of answers and catch-up, for interims beside them
MOST_SAVED_S: Final = 0.5  # of that share; as long as a long step of an interim
UNKNOWN_S: Final = 1.0  # assumed length of a step of a kind that never ran


class Priority(IntEnum):
    """Kinds of work, the most urgent first."""

    FINAL = 0
    ANSWER = 1
    LATE_FINAL = 2
    CATCH_UP = 3
    INTERIM = 4


CAPTIONS: Final = (Priority.FINAL, Priority.LATE_FINAL, Priority.INTERIM)
BESIDE_INTERIMS: Final = (Priority.ANSWER, Priority.CATCH_UP)


@dataclass(eq=False, slots=True)
class Task(Generic[T]):
    """One piece of work of one session."""

    session: str
    priority: Priority
    work: T
    arrival: int = field(default=0)


class Scheduler(Generic[T]):
    """Holds the tasks that are not finished yet."""

    def __init__(self) -> None:
        self._tasks: list[Task[T]] = []
        self._used_s: dict[tuple[str, Priority], float] = {}
        self._level_s: dict[Priority, float] = {}  # device time of the session served last
        self._arrivals = 0
        self._saved_s = 0.0  # background time that is saved up
        self._before: Priority | None = None  # the kind of the last step
        self._saved_for_interims_s = 0.0  # of the time of answers and catch-up
        self._step_s: dict[Priority, float] = {}  # the last step of each kind
        self._begun: dict[Priority, Task[T]] = {}  # the caption of each kind that had the last step
        self._detached: set[str] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, session: str, priority: Priority, work: T) -> Task[T]:
        """Add a task. A session that had none of its kind starts level with the one served last."""
        self._level(session, priority)
        self._arrivals += 1
        task = Task(session, priority, work, self._arrivals)
        self._tasks.append(task)
        return task

    def next(self, only: Callable[[Task[T]], bool] = lambda _: True) -> Task[T] | None:
        """Return the task whose next step is due, of those that ``only`` accepts; it stays until `finish`."""
        able = [task for task in self._tasks if only(task)]
        tasks = [task for task in able if task.session not in self._detached] or able
        first = min(tasks, key=self._rank, default=None)
        return first and (self._background_step(first, tasks) or first)

    def _background_step(self, first: Task[T], tasks: list[Task[T]]) -> Task[T] | None:
        """Return the task that gets a background step instead of ``first``: of the kind that has waited longest."""
        interims = [task for task in tasks if task.priority is Priority.INTERIM]
        if interims and first.priority in BESIDE_INTERIMS and self._interim_is_due:
            return min(interims, key=self._rank)
        waiting = [task for task in tasks if first.priority < task.priority < Priority.INTERIM]
        if self._before != first.priority or not waiting:
            return None
        kind = min(waiting, key=lambda task: task.arrival).priority
        if self._saved_s < self._step_s.get(kind, UNKNOWN_S):  # the step's length must be saved up first
            return None
        return min((task for task in waiting if task.priority == kind), key=self._rank)

    @property
    def _interim_is_due(self) -> bool:
        """Whether answers and catch-up have had so much time that the next step of an interim takes its share of it."""
        return self._saved_for_interims_s >= self._step_s.get(Priority.INTERIM, MOST_SAVED_S)

    def like(self, task: Task[T], same: Callable[[T], bool], most: int) -> list[Task[T]]:
        """Return ``task`` and, in the order of their turn, further tasks that can share its step, ``most`` in all."""
        others = [other for other in self._beside(task) if other is not task and same(other.work)]
        return [task, *sorted(others, key=self._rank)][:most]

    def charge(self, tasks: Sequence[Task[T]], seconds: float) -> None:
        """Account for a step of so many seconds that these tasks, of one kind, shared."""
        kind = tasks[0].priority
        for task in tasks:
            self._used_s[task.session, kind] = self._used(task.session, kind) + seconds / len(tasks)
        self._step_s[kind] = seconds
        if tasks[0].session in self._detached:  # an idle step: it saves up nothing
            self._before = None
            return
        self._before = kind
        if kind in CAPTIONS:
            self._begun[kind] = tasks[0]
        if kind is Priority.INTERIM:
            self._saved_for_interims_s = max(0.0, self._saved_for_interims_s - seconds)
        elif kind in BESIDE_INTERIMS:
            self._saved_for_interims_s = min(MOST_SAVED_S, self._saved_for_interims_s + INTERIM_SHARE * seconds)
        self._level_s[kind] = max(self._level_s.get(kind, 0.0), self._used(tasks[0].session, kind))
        beside = self._beside(tasks[0])
        if any(task.priority < kind for task in beside):
            self._saved_s -= seconds if kind < Priority.INTERIM else 0.0  # interims have a share of their own
        elif any(kind < task.priority < Priority.INTERIM for task in beside):
            self._saved_s += BACKGROUND_SHARE * seconds
        else:
            self._saved_s = 0.0

    def finish(self, task: Task[T]) -> None:
        """Remove a task that is done, failed or cancelled."""
        if task in self._tasks:
            self._tasks.remove(task)
        if self._begun.get(task.priority) is task:
            del self._begun[task.priority]

    def forget(self, session: str) -> list[Task[T]]:
        """Remove a session and its tasks, and return the tasks."""
        gone = [task for task in self._tasks if task.session == session]
        for task in gone:
            self.finish(task)
        for kind in Priority:
            self._used_s.pop((session, kind), None)
        self._detached.discard(session)
        return gone

    def detach(self, session: str) -> None:
        """Do a session's tasks only when no other session has any."""
        self._detached.add(session)

    def attach(self, session: str) -> None:
        """Do a session's tasks in their turn again. It starts level, whatever it was given while it was detached."""
        if session in self._detached:
            self._detached.remove(session)
            self._used_s.update({(session, kind): level for kind, level in self._level_s.items()})

    def _beside(self, task: Task[T]) -> list[Task[T]]:
        """Return the tasks that compete with this one: those of detached sessions, or those of all others."""
        detached = task.session in self._detached
        return [other for other in self._tasks if (other.session in self._detached) == detached]

    def _rank(self, task: Task[T]) -> tuple[int, float, int]:
        ahead = SLICE_S if self._begun.get(task.priority) is task else 0.0
        return task.priority, self._used(task.session, task.priority) - ahead, task.arrival

    def _level(self, session: str, kind: Priority) -> None:
        """Raise a session's device time to the level, if it has no task of this kind: idle time gives no credit."""
        if not any((task.session, task.priority) == (session, kind) for task in self._tasks):
            self._used_s[session, kind] = max(self._used(session, kind), self._level_s.get(kind, 0.0))

    def _used(self, session: str, kind: Priority) -> float:
        return self._used_s.get((session, kind), 0.0)
