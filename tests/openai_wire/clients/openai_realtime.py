"""The Realtime API through the `openai` package, sync and async; each function prints what it got as JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Iterator
from typing import Any

import openai
from audio import blocks

RATE = 24_000
CHUNK_S = 0.05


def chunks(pause_s: float = 1.0) -> Iterator[str]:
    """A recorded sentence and a pause, as the client appends them."""
    return (base64.b64encode(block).decode() for block in blocks(RATE, CHUNK_S, pause_s))


def message(text: str) -> Any:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


async def transcribe(client: openai.AsyncOpenAI) -> Any:
    """Server VAD, at the pace of speech."""
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        detection: Any = {"type": "server_vad", "silence_duration_ms": 500}
        heard: Any = {"transcription": {"model": "gpt-transcribe", "language": "en"}, "turn_detection": detection}
        await connection.session.update(session={"type": "transcription", "audio": {"input": heard}})

        async def send() -> None:
            for chunk in chunks():
                await connection.input_audio_buffer.append(audio=chunk)
                await asyncio.sleep(CHUNK_S)

        sending = asyncio.create_task(send())
        told = []
        async for event in connection:
            told.append([event.type, type(event).__name__, getattr(event, "delta", getattr(event, "transcript", None))])
            if event.type == "conversation.item.input_audio_transcription.completed":
                assert event.usage.type == "duration"
                break
        await sending
    return told


async def commit(client: openai.AsyncOpenAI) -> Any:
    """The client commits, as with today's default streaming model."""
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        heard: Any = {"transcription": {"model": "gpt-live-transcribe"}, "turn_detection": None}
        await connection.session.update(session={"type": "transcription", "audio": {"input": heard}})
        for chunk in chunks(0):
            await connection.input_audio_buffer.append(audio=chunk)
        await connection.input_audio_buffer.commit()
        async for event in connection:
            if event.type == "conversation.item.input_audio_transcription.completed":
                return event.transcript


async def converse(client: openai.AsyncOpenAI) -> Any:
    """Written questions about audio; one is cancelled."""
    told: dict[str, Any] = {"statuses": []}
    async with client.realtime.connect(model="gpt-realtime") as connection:
        heard: Any = {"turn_detection": None, "transcription": {"model": "any"}}
        await connection.session.update(
            session={"type": "realtime", "output_modalities": ["text"], "audio": {"input": heard}}
        )
        for chunk in chunks(0):
            await connection.input_audio_buffer.append(audio=chunk)
        await connection.input_audio_buffer.commit()
        async for event in connection:
            if event.type == "conversation.item.input_audio_transcription.completed":
                break
        await connection.conversation.item.create(item=message("Who is this?"))
        await connection.response.create(response={"metadata": {"topic": "who"}})
        told["deltas"] = ""
        async for event in connection:
            if event.type == "response.output_text.delta":
                told["deltas"] += event.delta
            if event.type == "response.done":
                told["statuses"].append(event.response.status)
                told["text"] = event.response.output[0].content[0].text
                told["metadata"] = event.response.metadata
                break
        await connection.conversation.item.create(item=message("word " * 100))
        await connection.response.create()
        async for event in connection:
            if event.type == "response.created":
                await connection.response.cancel()
            if event.type == "response.done":
                told["statuses"].append(event.response.status)
                break
        await connection.send({"type": "response.cancel", "event_id": "late"})
        async for event in connection:
            if event.type == "error":
                told["error"] = [event.error.code, event.error.event_id]
                break
    return told


async def translate(client: openai.AsyncOpenAI) -> Any:
    """A translation session, closed by the client."""
    text = ""
    async with client.realtime.translations.connect(model="gpt-realtime-translate") as connection:
        await connection.session.update(session={"audio": {"output": {"language": "en"}}})
        for chunk in chunks(0):
            await connection.session.input_audio_buffer.append(audio=chunk)
        await connection.session.close()
        async for event in connection:
            if event.type == "session.output_transcript.delta":
                text += event.delta
            if event.type == "session.closed":
                break
    return text


def sync(client: openai.AsyncOpenAI) -> Any:
    """The sync client."""
    plain = openai.OpenAI(base_url=client.base_url, api_key=client.api_key)
    with plain.realtime.connect(model="gpt-realtime") as connection:
        connection.conversation.item.create(item=message("Who is this?"))
        connection.response.create()
        for event in connection:
            if event.type == "response.done":
                return event.response.status


if __name__ == "__main__":
    function, base_url = sys.argv[1:3]
    result = globals()[function](openai.AsyncOpenAI(base_url=base_url, api_key="secret", max_retries=0))
    print(json.dumps(result if function == "sync" else asyncio.run(result)))
