"""Captions of the microphone, and an answer at the end: the smallest client there is.

Run ``pip install 'af3stream[mic]'``, start the service, then::

    python clients/microphone.py [ws://host:port]

Ctrl-C ends the recording.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import sounddevice

from af3stream.client import Session, connect
from af3stream.protocol.messages import Caption

RATE = 16_000  # Hz
BLOCK = RATE // 10  # sample frames


async def main(url: str) -> None:
    loop = asyncio.get_running_loop()
    blocks: asyncio.Queue[bytes] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGINT, blocks.put_nowait, b"")

    def on_block(block: Any, *_: object) -> None:  # on PortAudio's thread
        loop.call_soon_threadsafe(blocks.put_nowait, bytes(block))

    microphone = sounddevice.RawInputStream(RATE, BLOCK, channels=1, dtype="int16", callback=on_block)
    async with connect(url, rate=RATE) as session:
        printing = asyncio.create_task(print_captions(session))
        with microphone:
            while block := await blocks.get():
                await session.send(block)
        await session.flush()
        print("\nIn short:")
        async for piece in session.ask_stream("Summarise what was said."):
            print(piece, end="", flush=True)
        print()
        await session.end()
        await printing


async def print_captions(session: Session) -> None:
    async for message in session.messages():
        if isinstance(message, Caption) and message.final:
            print(f"{message.start:7.1f} s  {message.text}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765"))
