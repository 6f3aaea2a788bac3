"""The plugin for LiveKit Agents; each function prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, APIConnectOptions, APIError, llm, stt
from livekit.agents.voice.io import AudioInput
from livekit.plugins import af3stream
from recorded import RATE, sentences

FIRST, SECOND = sentences()
Kind = stt.SpeechEventType


def push(stream: af3stream.SpeechStream, blocks: list[bytes]) -> None:
    for block in blocks:
        stream.push_frame(rtc.AudioFrame(block, RATE, 1, len(block) // 2))


async def final(stream: af3stream.SpeechStream) -> stt.SpeechData:
    async for event in stream:
        if event.type is Kind.FINAL_TRANSCRIPT:
            return event.alternatives[0]
    raise AssertionError("the stream ended without a final")


async def ask(model: af3stream.LLM, chat: llm.ChatContext, question: str) -> str:
    chat.add_message(role="user", content=question)
    answer = (await model.chat(chat_ctx=chat).collect()).text
    chat.add_message(role="assistant", content=answer)
    return answer


async def transcribe(url: str) -> Any:
    """Both sentences, to the end of the stream."""
    engine = af3stream.STT(url, token="secret", speakers=True, words=True)
    events, usage = [], 0.0
    async with engine.stream() as stream:
        push(stream, FIRST + SECOND)
        stream.end_input()
        async for event in stream:
            if event.recognition_usage:
                usage += event.recognition_usage.audio_duration
            elif event.type is Kind.FINAL_TRANSCRIPT:
                (said,) = event.alternatives
                words = [
                    [str(word), round(word.start_time, 3), round(word.end_time, 3), word.speaker_id]
                    for word in said.words or []
                ]
                told = {"text": said.text, "speaker": said.speaker_id, "start": round(said.start_time, 3)}
                told["words"] = words
                events.append([event.type.value, told])
            else:
                events.append([event.type.value, None])
    return {"events": events, "usage_s": usage}


async def converse(url: str) -> Any:
    """A question amid the audio, one that follows it up, one in a new chat, and one after the end."""
    engine = af3stream.STT(url, token="secret")
    model, chat = af3stream.LLM(engine), llm.ChatContext.empty()
    reach: list[float | None] = []
    model.on("answer", lambda answer: reach.append(answer.heard_until))
    async with engine.stream() as stream:
        push(stream, FIRST)
        await final(stream)
        answers = [await ask(model, chat, "Who is this?"), await ask(model, chat, "And why?")]
        push(stream, SECOND)
        await final(stream)
        answers.append(await ask(model, llm.ChatContext.empty(), "And this?"))
        stream.end_input()
        async for _ in stream:
            pass
    refused = ""
    try:
        await model.chat(chat_ctx=chat, conn_options=APIConnectOptions(max_retry=0, timeout=0.2)).collect()
    except APIError as error:
        refused = error.message
    return {"answers": answers, "reach": reach, "refused": refused}


class Microphone(AudioInput):
    """Speaks the first sentence, then is silent."""

    def __init__(self) -> None:
        super().__init__(label="recorded")
        self._blocks = iter(FIRST)

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(0.05)
        block = next(self._blocks, bytes(len(FIRST[0])))
        return rtc.AudioFrame(block, RATE, 1, len(block) // 2)


async def agent(url: str) -> Any:
    """A voice agent whose turns are those of the STT: what is said is asked."""
    engine = af3stream.STT(url, token="secret")
    session: AgentSession[None] = AgentSession(
        stt=engine, llm=af3stream.LLM(engine), turn_detection="stt", vad=None, tts=None
    )
    said: asyncio.Queue[list[str]] = asyncio.Queue()
    session.on(
        "conversation_item_added", lambda event: said.put_nowait([event.item.role, event.item.text_content or ""])
    )
    session.input.audio = Microphone()
    await session.start(Agent(instructions="Answer."))
    turns = [await said.get(), await said.get()]
    await session.aclose()
    return turns


async def interrupt(url: str) -> Any:
    """A long answer that is closed after its first word."""
    engine = af3stream.STT(url, token="secret")
    chat = llm.ChatContext.empty()
    chat.add_message(role="user", content="word " * 100)
    async with engine.stream() as stream:
        push(stream, FIRST)
        await final(stream)
        async with af3stream.LLM(engine).chat(chat_ctx=chat) as answer:
            first = await anext(answer)
        stream.end_input()
        async for _ in stream:
            pass
    return first.delta.content if first.delta else None


async def resume(url: str) -> Any:
    """One sentence in a stream that is closed; the other in a stream of another object, with a question about both."""
    engine = af3stream.STT(url, token="secret")
    async with engine.stream() as stream:
        push(stream, FIRST)
        finals = [(await final(stream)).text]
        stream.flush()
        session = await engine.session(1)
        while session.durable < sum(map(len, FIRST)) // 2:  # noqa: ASYNC110 - the session has no event for it
            await asyncio.sleep(0.01)
        token = stream.resume_token
    engine = af3stream.STT(url, token="secret", resume=token)
    async with engine.stream() as stream:
        push(stream, SECOND)
        finals.append((await final(stream)).text)
        model, answers = af3stream.LLM(engine), []
        model.on("answer", lambda answer: answers.append([answer.start, answer.heard_until]))
        await ask(model, llm.ChatContext.empty(), "What was said?")
    return {"finals": finals, "heard": answers[0], "first_s": sum(map(len, FIRST)) / 2 / RATE}


async def refuse(url: str) -> Any:
    """A wrong token."""
    engine = af3stream.STT(url, token="wrong")
    errors = []
    engine.on("error", lambda error: errors.append([str(error.error), error.recoverable]))
    with suppress(APIError):
        async with engine.stream() as stream:
            await final(stream)
    return errors


if __name__ == "__main__":
    function, server = sys.argv[1:3]
    print(json.dumps(asyncio.run(globals()[function](server))))
