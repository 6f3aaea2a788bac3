"""Files through the `openai` package, sync and async; each function prints what it got as JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

import openai
from audio import RECORDING


def transcribe(client: openai.OpenAI) -> Any:
    told = {}
    for kind in ("json", "verbose_json", "diarized_json"):
        with RECORDING.open("rb") as file:
            answer = client.audio.transcriptions.create(
                model="mini", file=file, response_format=kind, timestamp_granularities=["word", "segment"]
            )
        told[kind] = [type(answer).__name__, answer.text]
    for kind in ("text", "srt", "vtt"):
        with RECORDING.open("rb") as file:
            told[kind] = str(client.audio.transcriptions.create(model="mini", file=file, response_format=kind))
    return told


def stream(client: openai.OpenAI) -> Any:
    with RECORDING.open("rb") as file:
        return [
            [type(event).__name__, event.delta if event.type == "transcript.text.delta" else event.text]
            for event in client.audio.transcriptions.create(model="mini", file=file, stream=True)
        ]


def logprobs(client: openai.OpenAI) -> Any:
    with RECORDING.open("rb") as file:
        answer = client.audio.transcriptions.create(model="mini", file=file, include=["logprobs"])
    return [answer.text, "".join(each.token or "" for each in answer.logprobs or ())]


def chunking(client: openai.OpenAI) -> Any:
    segments = []
    for pause_ms in (600, 50):
        strategy: Any = {"type": "server_vad", "silence_duration_ms": pause_ms}
        with RECORDING.open("rb") as file:
            answer = client.audio.transcriptions.create(
                model="mini", file=file, response_format="verbose_json", chunking_strategy=strategy
            )
        segments.append(len(answer.segments or ()))
    return segments


def chat(client: openai.OpenAI) -> Any:
    data = base64.b64encode(RECORDING.read_bytes()).decode()
    parts: Any = [
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "text", "text": "Who is this?"},
    ]
    messages: Any = [{"role": "user", "content": parts}]
    whole = client.chat.completions.create(model="mini", messages=messages)
    pieces = client.chat.completions.create(model="mini", messages=messages, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    return [whole.choices[0].message.content, streamed, whole.usage.completion_tokens if whole.usage else None]


def models(client: openai.OpenAI) -> Any:
    return [[model.id for model in client.models.list()], client.models.retrieve("scripted").owned_by]


def errors(client: openai.OpenAI) -> Any:
    told = []
    try:
        client.audio.transcriptions.create(model="mini", file=b"no audio")
    except openai.BadRequestError as error:
        told.append([error.code, error.param])
    try:
        client.audio.transcriptions.create(model="mini", file=RECORDING, known_speaker_names=["Anna"])
    except openai.BadRequestError as error:
        told.append([error.code, error.param])
    try:
        client.with_options(api_key="wrong").models.list()
    except openai.AuthenticationError as error:
        told.append([error.code, error.param])
    return told


def together(client: openai.OpenAI) -> Any:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key) as several:
            answers = await asyncio.gather(
                *(several.audio.transcriptions.create(model="mini", file=RECORDING) for _ in range(2))
            )
        return [answer.text for answer in answers]

    return asyncio.run(run())


if __name__ == "__main__":
    function, base_url = sys.argv[1:3]
    print(json.dumps(globals()[function](openai.OpenAI(base_url=base_url, api_key="secret", max_retries=0))))
