"""Run steps: the interface, and a thread that runs each step within a time limit.

The worker decides what runs; an `Executor` runs it and returns what came of it. What crosses the interface are jobs,
numbers, texts, and embeddings that only the executor reads, so an executor may stand for another process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue
from typing import Protocol, TypeVar

from af3stream.engine.contract import AudioSource, Prefix
from af3stream.engine.model_runner import ModelRunner, Outputs
from af3stream.engine.request import Request

T = TypeVar("T")
Call = Callable[[], None]


class StepTimeout(Exception):
    """A step did not end in time. The executor has given it up, with the KV prefixes that it was using."""


class Executor(Protocol):
    """Runs one step at a time. No method is called while another one runs."""

    def open(self, session: str, source: AudioSource) -> None:
        """Begin a session, whose audio is read again from ``source``."""

    def prefix(self, session: str) -> Prefix:
        """Return a session's KV prefix, an empty one if it has none."""

    def run(self, requests: Sequence[Request]) -> Outputs:
        """Run one step of these requests, of one kind, together; a request that has not begun begins.

        Raises:
            StepTimeout: if the step does not end in time.
            Exception: if the step fails for all of them.
        """

    def cancel(self, request: Request) -> None:
        """Free what a request that has begun holds, and take back what it changed in its session's KV prefix."""

    def close(self, session: str) -> None:
        """Drop all of a session."""


class ThreadExecutor:
    """Runs a model runner's steps on a thread of its own, the only one that computes, and watches the time.

    A thread that hangs cannot be ended. It is left behind, what it still does is ignored, and a new thread goes on.

    Args:
        runner: what does the work.
        timeout_s: how long a step may take.
    """

    def __init__(self, runner: ModelRunner, timeout_s: float) -> None:
        self._runner = runner
        self._timeout_s = timeout_s
        self._calls = _start_thread()

    def open(self, session: str, source: AudioSource) -> None:
        """Begin a session; see `Executor`."""
        self._runner.open(session, source)

    def prefix(self, session: str) -> Prefix:
        """Return a session's KV prefix; see `Executor`."""
        return self._runner.prefix(session)

    def run(self, requests: Sequence[Request]) -> Outputs:
        """Run one step; see `Executor`.

        Raises:
            StepTimeout: if the step does not end in time.
        """
        future = self._submit(partial(self._runner.run, requests))
        if not wait([future], self._timeout_s).done:
            self.stop()
            self._runner.abandon(requests)
            self._calls = _start_thread()
            raise StepTimeout
        return future.result()

    def cancel(self, request: Request) -> None:
        """Free what a request holds; see `Executor`. It copies tensors, which the thread alone does."""
        self._submit(partial(self._runner.cancel, request)).result()

    def close(self, session: str) -> None:
        """Drop all of a session; see `Executor`."""
        self._runner.close(session)

    def stop(self) -> None:
        """End the thread after the step that it runs."""
        self._calls.put(None)

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        future = Future[T]()
        self._calls.put(partial(_settle, future, call))
        return future


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
        future.set_exception(error)


def _start_thread() -> SimpleQueue[Call | None]:
    """Start a thread that makes the calls of a queue until it finds ``None``."""
    calls = SimpleQueue[Call | None]()

    def work() -> None:
        while (call := calls.get()) is not None:
            call()

    threading.Thread(target=work, name="engine", daemon=True).start()
    return calls
