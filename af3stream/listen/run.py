"""One run of the ``listen`` command: audio goes out at its pace, questions at their time, messages to the screen."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from af3stream.captions import CaptionWriter
from af3stream.client import ConnectionLost, ServerError, Session, connect
from af3stream.errors import Af3StreamError, SourceError
from af3stream.listen.options import ListenOptions, Question, question
from af3stream.listen.screen import Screen, open_screen
from af3stream.listen.sources import Lost, Source, open_source
from af3stream.protocol.messages import Caption

TAIL_S: Final = 15.0  # after Ctrl-C: how long the last captions and answers may take
INTERRUPTED: Final = 130


async def listen(options: ListenOptions) -> int:
    """Stream the source to the service until it ends, or Ctrl-C; print what comes back; return the exit code.

    Raises:
        SetupError: for what is wrong before audio flows, and for a source or caption file that fails later.
    """
    questions = [question(spelled) for spelled in options.asks]
    run = asyncio.create_task(_run(options, questions))
    interrupts = _Interrupts(run)
    with _on_sigint(interrupts):
    ...
