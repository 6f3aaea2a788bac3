"""What Python 3.12 does by itself, for older ones: None, True, False and NotImplemented never run out of references.

PySide6's binaries, as of 6.12, return these without counting a reference, as is right from 3.12 on. On 3.11 every call
takes one away, and a program that runs for some minutes would be ended by "deallocating None".
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

EXTRA_REFERENCES: Final = 1 << 40


def pin_singletons() -> None:
    """Add references that nobody will ever give back."""
    if sys.implementation.name == "cpython" and sys.version_info < (3, 12):
        for singleton in (None, True, False, NotImplemented):
            ctypes.c_ssize_t.from_address(id(singleton)).value += EXTRA_REFERENCES
