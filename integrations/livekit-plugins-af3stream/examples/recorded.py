"""Play a recording to a server at the pace of speech, print what LiveKit hears, and ask about it at the end.

python examples/recorded.py ws://127.0.0.1:8765 talk.wav "What is this about?"
"""

from __future__ import annotations

import asyncio
import os
import sys

import soundfile
from livekit import rtc
from livekit.agents import llm, stt
from livekit.plugins import af3stream

BLOCK_S = 0.05


async def play(path: str, stream: af3stream.SpeechStream) -> None:
    """Push a file's first channel."""
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    size = int(rate * BLOCK_S)
    for start in range(0, len(samples), size):
        block = samples[start : start + size, 0]
        stream.push_frame(rtc.AudioFrame(block.tobytes(), rate, 1, len(block)))
        await asyncio.sleep(BLOCK_S)


async def show(stream: af3stream.SpeechStream) -> None:
    """Print the finals, each with its speaker and with the time of its first and last word."""
    async for event in stream:
        if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT:
            said = event.alternatives[0]
            times = f"{said.words[0].start_time:.1f}-{said.words[-1].end_time:.1f} s" if said.words else ""
            print(f"speaker {said.speaker_id}, {times}: {said.text}", flush=True)


async def main(url: str, path: str, question: str) -> None:
    """Transcribe and ask."""
    heard = af3stream.STT(url, token=os.environ.get("AF3STREAM_TOKEN"), speakers=True, words=True)
    model = af3stream.LLM(heard)
    async with heard.stream() as stream:
        showing = asyncio.create_task(show(stream))
        await play(path, stream)
        chat = llm.ChatContext.empty()
        chat.add_message(role="user", content=question)
        answer = await model.chat(chat_ctx=chat).collect()
        stream.end_input()
        await showing
    print(f"answer: {answer.text}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
