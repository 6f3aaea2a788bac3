"""Keep None, True, False and NotImplemented alive on Python 3.11, where they are not immortal (PEP 683).

PySide6's binaries, as of 6.12, return these objects without counting a reference, which is correct from Python 3.12 on.
On 3.11 every such call removes one reference, and after some minutes the interpreter aborts with "deallocating None".
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

EXTRA_REFERENCES: Final = 1 << 40


def pin_singletons() -> None:
    """Add references to the singletons that are never released."""
    if sys.implementation.name == "cpython" and sys.version_info < (3, 12):
        for singleton in (None, True, False, NotImplemented):
            ctypes.c_ssize_t.from_address(id(singleton)).value += EXTRA_REFERENCES
