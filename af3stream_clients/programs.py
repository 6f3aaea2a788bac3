"""The commands ``af3stream-captions``, ``af3stream-mic`` and ``af3stream-bot``.

A command whose extra is not installed says how to install it, and ends with exit code 2.
"""

from __future__ import annotations

import sys
from importlib import import_module

from af3stream.errors import SetupError
from af3stream.extras import require


def captions() -> int:
    """Run the desktop captions; returns the exit code."""
    return _run("captions", extra="desktop")


def mic() -> int:
    """Run the microphone in the terminal; returns the exit code."""
    return _run("mic", extra="mic")


def bot() -> int:
    """Run the meeting bot; returns the exit code."""
    return _run("meeting_bot", extra="bot")


def _run(program: str, *, extra: str) -> int:
    try:
        require(extra)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    exit_code: int = import_module(f"{__package__}.{program}.__main__").main()
    return exit_code
