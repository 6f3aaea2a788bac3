"""Run the thread that writes, with a bounded queue."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeVar

from af3stream.errors import StorageError
from af3stream.journal.facts import Done
from af3stream.journal.records import EventRecord, Record
from af3stream.journal.store import Store

log = logging.getLogger(__name__)

LONGEST_WAIT_S: Final = 10.0
AFTER_A_BUG_S: Final = 1.0
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Append:
    session: str
    records: Sequence[Record]
    done: Done
    size: int
    refused: bool


class Writer:
    """Commit in groups: records that arrive during a commit, or before the next one may start, form the next commit.

    Args:
        commit_every_s: the least seconds between the starts of two commits.
        waiting_bytes: the most bytes of pending records. Audio beyond it is refused at once, unless nothing is pending.
            Events are few, and always accepted.
    """

    def __init__(self, store: Store, *, commit_every_s: float, waiting_bytes: int) -> None:
        self._store = store
        self._commit_every_s = commit_every_s
        self._waiting_bytes = waiting_bytes
        self._changed = threading.Condition()
        self._appended: list[_Append] = []
        self._appended_bytes = 0
        self._calls: list[Callable[[], None]] = []
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Commit pending records, if the disk allows it, and stop the thread."""
        if self._thread is not None:
            with self._changed:
                self._stopping = True
                self._changed.notify()
            self._thread.join()
            self._thread = None
        self._store.close()

    def append(self, session: str, records: Sequence[Record], done: Done) -> None:
        """Queue records; never blocks. ``done`` is called on the thread, until it is stopped."""
        with self._changed:
            if self._stopping:
                return
            waiting = self._appended_bytes + self._store.waiting_bytes
            fitting, size = self._fitting(records, waiting)
            self._appended.append(_Append(session, fitting, done, size, refused=len(fitting) < len(records)))
            self._appended_bytes += size
            self._changed.notify()

    def _fitting(self, records: Sequence[Record], waiting: int) -> tuple[Sequence[Record], int]:
        """Return the leading records that fit beside the given number of bytes, and their size."""
        size = 0
        for index, record in enumerate(records):
            full = waiting + size and waiting + size + record.size > self._waiting_bytes
            if full and not isinstance(record, EventRecord):
                return records[:index], size
            size += record.size
        return records, size

    @property
    def has_room(self) -> bool:
        """Whether the queue has room."""
        return self._appended_bytes + self._store.waiting_bytes < self._waiting_bytes

    def call(self, job: Callable[[], Result]) -> Result:
        """Run a job on the thread, after all earlier appends, and return its result. Without a thread, run it here.

        Raises:
            StorageError: if the thread is stopping. Errors of ``job`` are raised too.
        """
        if self._thread is None or threading.current_thread() is self._thread:
            return job()
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(job())
            except Exception as error:  # noqa: BLE001 (it is raised where the result is asked for)
                future.set_exception(error)

        with self._changed:
            if self._stopping:
                raise StorageError
            self._calls.append(run)
            self._changed.notify()
        return future.result()

    def _run(self) -> None:
        next_commit = 0.0
        while not self._take():
            now = time.monotonic()
            due = max(next_commit, self._store.due)
            if due <= now:
                next_commit = now + self._commit_every_s
                if not self._commit(now):
                    next_commit = now + AFTER_A_BUG_S
            elif not self._store.step(now):
                self._wait(due - now)
        self._commit(time.monotonic())

    def _take(self) -> bool:
        """Pass the queued records to the store, and run the queued jobs; return whether to stop."""
        with self._changed:
            appended, self._appended = self._appended, []
            calls, self._calls = self._calls, []
            self._appended_bytes = 0
            stopping = self._stopping
        for item in appended:
            self._store.append(item.session, item.records, item.done, refused=item.refused)
        for call in calls:
            call()
        return stopping

    def _commit(self, now: float) -> bool:
        try:
            self._store.commit(now)
        except Exception:
            log.exception("a commit failed with an unexpected error")
            return False
        return True

    def _wait(self, longest_s: float) -> None:
        with self._changed:
            if not (self._appended or self._calls or self._stopping):
                self._changed.wait(min(longest_s, LONGEST_WAIT_S))
