"""Memory that a job leaves free inside the process, and memory that stays as long as the process."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import cache
from typing import Any


def trim_heap() -> None:
    """Return free memory to the system, where the C library keeps it and can be told so.

    glibc keeps what is freed in the middle of its heaps for ever; after an hour of windows of all lengths that is
    hundreds of megabytes. Telling it takes 4 ms, and what is wanted again soon a few more.
    """
    if trim := _malloc_trim():
        trim(0)


def settle() -> None:
    """Have the collector take all that is there now to stay.

    What loading makes stays anyway, and to walk through all of its objects holds up every thread.
    """
    gc.collect()
    gc.freeze()


@cache
def _malloc_trim() -> Callable[[int], Any] | None:
    """glibc's own; ``None`` elsewhere."""
    try:
        found: Callable[[int], Any] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # no C library goes by no name, as on Windows
        return None
    return found
