"""LiveKit's OpenAI plugin: its STT over the Realtime API, and its text model; each function prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from audio import blocks
from livekit import rtc
from livekit.agents import stt, utils
from livekit.agents.llm import ChatContext
from livekit.plugins import openai

RATE = 24_000
BLOCK_S = 0.05


def frames(pause_s: float = 1.0) -> list[rtc.AudioFrame]:
    return [
        rtc.AudioFrame(block, RATE, 1, len(block) // 2) for block in blocks(RATE, BLOCK_S, pause_s) if len(block) >= 2
    ]


async def transcribe(base_url: str) -> Any:
    """A whole stream at the pace of speech; the socket is used for a second stream."""
    told = []
    engine = openai.STT(use_realtime=True, base_url=base_url, api_key="secret", model="gpt-transcribe", language="en")
    for _ in range(2):
        stream = engine.stream()

        async def send(stream: Any = stream) -> None:
            for frame in frames():
                stream.push_frame(frame)
                await asyncio.sleep(BLOCK_S)

        sending = asyncio.create_task(send())
        async for event in stream:
            text = event.alternatives[0].text if event.alternatives else ""
            told.append([event.type.value, text])
            if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT:
                break
        await sending
        await stream.aclose()
    await engine.aclose()
    return told


async def converse(base_url: str) -> Any:
    """Audio, then a written question, answered in writing; then a reply to instructions."""
    model = openai.realtime.RealtimeModel(
        modalities=["text"], base_url=base_url, api_key="secret", model="gpt-realtime", turn_detection=None
    )
    session = model.session()
    errors: list[str] = []
    session.on("error", lambda error: errors.append(str(error)))
    for frame in frames(0):
        session.push_audio(frame)
    session.commit_audio()
    chat = ChatContext.empty()
    chat.add_message(role="user", content="Who is this?")
    await session.update_chat_ctx(chat)
    answers = []
    for instructions in (None, "Say hello."):
        given = {"instructions": instructions} if instructions else {}
        generation = await session.generate_reply(**given)
        async for message in generation.message_stream:
            answers.append("".join([str(piece) async for piece in message.text_stream]))
    await session.aclose()
    return {"answers": answers, "errors": errors}


async def run(function: str, base_url: str) -> None:
    async with utils.http_context.open():
        print(json.dumps(await globals()[function](base_url)))


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:3]))
