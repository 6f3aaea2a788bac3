"""Play a recording to a server at the pace of speech, print what Pipecat hears, and ask about it at the end.

python examples/recorded.py ws://127.0.0.1:8765 talk.wav "What is this about?"
"""

from __future__ import annotations

import asyncio
import os
import sys

import soundfile
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    TranscriptionFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from pipecat_af3stream import Af3streamQuestionProcessor, Af3streamSTTService

BLOCK_S = 0.05


class Printer(FrameProcessor):
    """Print the finals, each with its speaker and with the time of its first and last word; then the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = asyncio.Event()
        self._answer = ""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Print what is of interest, and pass everything on."""
        await super().process_frame(frame, direction)
        match frame:
            case TranscriptionFrame():
                words = frame.result.words
                times = f"{words[0].start:.1f}-{words[-1].end:.1f} s" if words else ""
                print(f"speaker {frame.user_id}, {times}: {frame.text}", flush=True)
            case LLMTextFrame():
                self._answer += frame.text
            case LLMFullResponseEndFrame():
                print(f"answer: {self._answer}", flush=True)
                self.answered.set()
        await self.push_frame(frame, direction)


async def main(url: str, path: str, question: str) -> None:
    """Transcribe and ask."""
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    stt = Af3streamSTTService(url, token=os.environ.get("AF3STREAM_TOKEN"), speakers=True, words=True)
    printer = Printer()
    pipeline = Pipeline([stt, Af3streamQuestionProcessor(stt), printer])
    worker = PipelineWorker(pipeline, params=PipelineParams(audio_in_sample_rate=rate))

    async def play() -> None:
        size = int(rate * BLOCK_S)
        for start in range(0, len(samples), size):
            await worker.queue_frame(InputAudioRawFrame(samples[start : start + size, 0].tobytes(), rate, 1))
            await asyncio.sleep(BLOCK_S)
        await worker.queue_frame(LLMContextFrame(LLMContext([{"role": "user", "content": question}])))
        await printer.answered.wait()
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), play())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
