"""Run the jobs of all sessions on threads of the engine's own, and take jobs from any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from af3stream.config import ModelConfig
from af3stream.engine.contract import AudioSource, Engine
from af3stream.engine.engine_core import EngineCore, Resident
from af3stream.engine.jobs import Job
from af3stream.engine.request import Report, Request
from af3stream.tracing import Tracing

STOP_S: Final = 10.0  # how long `stop` waits for the running step
SHORT_FOR_S: Final = 2.0  # a job that waits longer for memory shows that memory is short


class Worker:
    """Takes jobs of many sessions for one engine. Its methods may be called from any thread.

    After `start` it works on a thread of its own, and the steps run on another, within a time limit. Without `start`,
    `run_all` and `step` do the same work in the caller's thread, without a limit. Reports come from the thread that
    works.

    Args:
        limits: how long a step may take, how much memory keys, values and embeddings may, and when they are evicted.
        tracing: makes spans; ``None``: nothing is traced.
    """

    def __init__(self, engine: Engine, limits: ModelConfig | None = None, tracing: Tracing | None = None) -> None:
        self._core = EngineCore(engine, limits or ModelConfig(), tracing)
        self._commands: list[Callable[[], None]] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Work on a thread from now on."""
        self._thread = threading.Thread(target=self._loop, name="engine scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the running step, or after 10 s; jobs that are not done are dropped."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread:
            self._thread.join(STOP_S)

    def open(self, session: str, source: AudioSource, resident: Resident) -> None:
        """Begin a session. Without this, its embeddings are never evicted, and no audio of it is read again.

        Args:
            source: gives its audio again; called from the thread that runs the steps.
            resident: called when other windows of it have embeddings than before.
        """
        self._command(lambda: self._core.open(session, source, resident))

    def submit(self, session: str, job: Job, report: Report) -> None:
        """Queue a job; ``report`` is called with its results in order, the last time with ``done``."""
        self._command(lambda: self._core.submit(Request(session, job, report)))

    def cancel(self, session: str, job: int) -> None:
        """Drop the job with this id, wherever it is; nothing is reported of it after the running step."""
        self._command(lambda: self._core.cancel(session, job))

    def detach(self, session: str) -> None:
        """Do a session's jobs only when no other session has any: its client is gone."""
        self._command(lambda: self._core.scheduler.detach(session))

    def attach(self, session: str) -> None:
        """Do a session's jobs in their turn again."""
        self._command(lambda: self._core.scheduler.attach(session))

    def wake(self) -> None:
        """Look again for something to do: audio that a job waits for is here."""
        self._command(lambda: None)

    def close(self, session: str) -> None:
        """Drop a session's jobs, keys and values, and embeddings."""
        self._command(lambda: self._core.close(session))

    def evict_all(self) -> None:
        """Evict all keys and values, and all embeddings that can be made again, before the next step."""
        self._command(self._core.evict_all)

    @property
    def sessions(self) -> int:
        """Number of open sessions."""
        return self._core.sessions

    @property
    def busy_s(self) -> float:
        """Seconds that the device has worked."""
        return self._core.busy_s

    @property
    def due_s(self) -> float:
        """Seconds that the device has worked for what cannot be shed: all but interim captions."""
        return self._core.due_s

    @property
    def short_since(self) -> float | None:
        """Since when the most urgent job waits for memory that others have, in clock seconds, or ``None``."""
        return self._core.short_since

    @property
    def short_s(self) -> float:
        """How long the most urgent job has waited for memory that others have, in seconds; 0: none waits."""
        since = self.short_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that are written, or reserved for a running job."""
        return self._core.caches.kv.bytes

    @property
    def kv_limit_bytes(self) -> int:
        """The most keys and values that there may be, in bytes; 0: no limit."""
        return self._core.caches.kv.budget

    @property
    def kv_sessions(self) -> int:
        """The sessions that have some of these bytes."""
        return self._core.caches.kv.sessions

    @property
    def embedding_bytes(self) -> int:
        """Bytes of embeddings that are resident, or reserved for a running job."""
        return self._core.caches.embeddings.bytes

    def run_all(self) -> None:
        """Work in the caller's thread until nothing is left."""
        while self.step():
            pass

    def step(self) -> bool:
        """Do one step in the caller's thread; returns whether there was anything to do."""
        with self._wake:
            commands, self._commands = self._commands, []
        for command in commands:
            command()
        return self._core.step() or bool(commands)

    def _loop(self) -> None:
        executor = self._core.new_thread()
        worked = True
        while self._wait(worked):
            self._core.caches.evict_idle(time.monotonic())
            worked = self.step()
        executor.stop()

    def _wait(self, worked: bool) -> bool:
        """Wait until there is something to do, or to evict; false if it is time to stop.

        Args:
            worked: whether the last step found something to do. If not, all jobs wait for audio.
        """
        with self._wake:
            deadline = self._core.caches.next_deadline()
            idle_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._wake.wait_for(
                lambda: self._stopping or self._commands or (worked and len(self._core.scheduler)), idle_s
            )
            return not self._stopping

    def _command(self, command: Callable[[], None]) -> None:
        with self._wake:
            self._commands.append(command)
            self._wake.notify()
