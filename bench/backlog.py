"""Measure the first token of questions asked right after a file was streamed as fast as the server takes it.

Three questions follow each other while the server still writes captions and reads windows. The alternative, in the
same run, is the same question once everything is read. ``python -m bench.backlog [--quick]``
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from af3stream.client import connect
from af3stream.client.session import Session
from bench.common import RATE, quick, report, speech
from bench.live import ASK_TOKENS, device_s, server

QUESTIONS: Final = ("What was said about the young man?", "Who is spoken of?", "What happened in the end?")
AUDIO_S: Final = 600
QUICK_S: Final = 60
PAUSE_S: Final = 0.6
BLOCK: Final = RATE  # samples a message
IDLE_S: Final = 2.0


def main(argv: list[str] | None = None) -> None:
    """Stream the audio, ask at once, and ask again when all of it is read."""
    audio_s = QUICK_S if quick(__doc__, argv) else AUDIO_S
    sent_s, behind, ready = asyncio.run(measure(audio_s))
    report(
        "backlog",
        audio_s=audio_s,
        sent_in_s=sent_s,
        first_token_s=max(behind),
        first_token_s_each=behind,
        first_token_s_when_read=ready,
        over_read=max(behind) / ready,
    )


async def measure(audio_s: float) -> tuple[float, list[float], float]:
    """Return the seconds of sending, the seconds to the first token of each question, and those when all is read."""
    pcm = (speech(audio_s, PAUSE_S) * 32_767).astype("<i2")
    async with server() as url, connect(url, interims=False, reconnect_for=0) as session, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(_read(session))
        began = time.monotonic()
        for at in range(0, len(pcm), BLOCK):
            await session.send(pcm[at : at + BLOCK].tobytes())
        sent_s = time.monotonic() - began
        behind = [await first_token_s(session, question) for question in QUESTIONS]
        await session.flush()
        await _idle(url)
        ready = await first_token_s(session, QUESTIONS[0])
        await session.end()
        await reading
    return sent_s, behind, ready


async def first_token_s(session: Session, question: str) -> float:
    """Ask, and return the seconds to the first words of the answer."""
    began = time.monotonic()
    first = None
    answering = session.ask_stream(question, max_tokens=ASK_TOKENS)
    async for piece in answering:
        if piece and first is None:
            first = time.monotonic()
    return (first or time.monotonic()) - began


async def _idle(url: str) -> None:
    """Wait until the server has read everything: its device had no work for a while."""
    before = -1.0
    while before < (now := await device_s(url)):
        before = now
        await asyncio.sleep(IDLE_S)


async def _read(session: Session) -> None:
    async for _ in session:
        pass


if __name__ == "__main__":
    main()
