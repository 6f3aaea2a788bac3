"""Loading on a thread that ends with it, so that the engine's thread has the CPUs for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def run_in_thread(load: Callable[[], Result]) -> Result:
    """What ``load`` returns, or raises, on a thread of its own that has ended by then.

    GNU OpenMP keeps a team of threads for every thread that ever computed (`libgomp/config/linux/wait.h`,
    ``gomp_throttled_spin_count_var``). Where all teams together outnumber the CPUs, as they would if that of the thread
    that loads stayed beside the engine's, its threads sleep at the end of every product and are woken for the next.
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
