"""Run a load on a thread of its own, so that its OpenMP threads end with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def run_in_thread(load: Callable[[], Result]) -> Result:
    """Run ``load`` on a new thread, wait until the thread has ended, and return or raise what ``load`` did.

    GNU OpenMP keeps a team of threads for every thread that has computed, as long as that thread lives. If all teams
    together have more threads than there are CPUs, libgomp may let them sleep sooner (`af3stream.engine`). A loading
    thread that stayed would have that effect on the engine's thread.
    """
    loaded: Future[Result] = Future()

    def run() -> None:
        try:
            loaded.set_result(load())
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is waited for)
            loaded.set_exception(error)

    thread = threading.Thread(target=run, name="loading", daemon=True)
    thread.start()
    thread.join()
    return loaded.result()
