"""Pipecat's services over the Realtime API, each in a small pipeline; each function prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from audio import blocks
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    TranscriptionFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.services.openai.stt import OpenAIRealtimeSTTService

RATE = 24_000
BLOCK_S = 0.04


class Sink(FrameProcessor):
    """Notes the frames of some kinds, and tells when one of the last kind comes."""

    def __init__(self, last: type[Frame], *kinds: type[Frame]) -> None:
        super().__init__()
        self.told: list[list[str]] = []
        self.done = asyncio.Event()
        self._last, self._kinds = last, (last, *kinds, ErrorFrame)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, self._kinds):
            self.told.append([type(frame).__name__, getattr(frame, "text", getattr(frame, "error", ""))])
        if isinstance(frame, self._last):
            self.done.set()
        await self.push_frame(frame, direction)


async def play(service: FrameProcessor, sink: Sink, feed: Any) -> list[list[str]]:
    task = PipelineTask(Pipeline([service, sink]), params=PipelineParams(audio_in_sample_rate=RATE))

    async def drive() -> None:
        await asyncio.sleep(0.5)
        await feed(task)
        await asyncio.wait_for(sink.done.wait(), 20)
        await task.queue_frame(EndFrame())

    await asyncio.gather(PipelineRunner(handle_sigint=False).run(task), drive())
    return sink.told


async def say(task: PipelineTask) -> None:
    for block in blocks(RATE, BLOCK_S):
        await task.queue_frame(InputAudioRawFrame(block, RATE, 1))
        await asyncio.sleep(BLOCK_S)


async def transcribe(url: str) -> Any:
    """Server VAD, at the pace of speech."""
    settings = OpenAIRealtimeSTTService.Settings(model="gpt-transcribe")
    service = OpenAIRealtimeSTTService(
        api_key="secret", base_url=url, turn_detection={"type": "server_vad"}, settings=settings
    )
    return await play(service, Sink(TranscriptionFrame, InterimTranscriptionFrame), say)


async def converse(url: str) -> Any:
    """Audio, then a written question."""
    properties = events.SessionProperties(
        output_modalities=["text"],
        audio=events.AudioConfiguration(input=events.AudioInput(turn_detection=False)),
    )
    settings = OpenAIRealtimeLLMService.Settings(model="gpt-realtime", session_properties=properties)
    service = OpenAIRealtimeLLMService(api_key="secret", base_url=url, settings=settings)

    async def feed(task: PipelineTask) -> None:
        await say(task)
        context = LLMContext([{"role": "user", "content": "Who is this?"}])
        await task.queue_frame(LLMContextFrame(context))

    return await play(service, Sink(LLMFullResponseEndFrame, LLMTextFrame), feed)


if __name__ == "__main__":
    function, base_url = sys.argv[1:3]
    socket_url = f"ws{base_url.removeprefix('http')}/realtime"
    print(json.dumps(asyncio.run(globals()[function](socket_url))))
