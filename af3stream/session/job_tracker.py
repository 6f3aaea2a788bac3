"""A session's jobs on their way to the engine, and how far the session lags behind."""

from __future__ import annotations

from collections import Counter
from typing import Final

from af3stream.engine.jobs import Failed, Job

ATTEMPTS: Final = 2  # at a caption or a window, before it is given up


class JobTracker:
    """The jobs to submit and to cancel, those that are due, and those that failed before.

    A job that is submitted with its due position counts towards the lag until it is finished.
    """

    def __init__(self) -> None:
        self._new: list[Job] = []
        self._cancelled: list[Job] = []
        self._due: dict[Job, int] = {}  # samples at 16 kHz
        self._failures: Counter[Job] = Counter()

    def submit(self, job: Job, due: int | None = None) -> None:
        """Add a job for the engine; ``due``: the samples received when it became due."""
        if due is not None:
            self._due[job] = due
        self._new.append(job)

    def make_due(self, job: Job, due: int) -> None:
        """Let a job that was submitted before count towards the lag."""
        self._due[job] = due

    def is_due(self, job: Job) -> bool:
        """Return whether a job counts towards the lag."""
        return job in self._due

    def retry(self, job: Job, failed: Failed) -> bool:
        """Submit a failed job again if it has attempts left; returns whether it has."""
        self._failures[job] += 1
        if failed.timed_out or self._failures[job] >= ATTEMPTS:
            return False
        self._new.append(job)
        return True

    def finish(self, job: Job) -> None:
        """Forget a job: it is done, or given up."""
        self._due.pop(job, None)
        self._failures.pop(job, None)

    def cancel(self, job: Job) -> None:
        """Have the engine drop a job."""
        self.finish(job)
        self._cancelled.append(job)

    def take_new(self) -> list[Job]:
        """Return the jobs to submit, and empty the list."""
        jobs, self._new = self._new, []
        return jobs

    def take_cancelled(self) -> list[Job]:
        """Return the jobs to cancel, and empty the list."""
        jobs, self._cancelled = self._cancelled, []
        return jobs

    def lag(self, position: int, kind: type[Job] | None = None) -> int:
        """Return the samples received since the oldest job became due; of one kind of jobs, or of all."""
        due = (at for job, at in self._due.items() if kind is None or isinstance(job, kind))
        return position - min(due, default=position)
