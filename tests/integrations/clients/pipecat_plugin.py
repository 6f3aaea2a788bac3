"""The plugin for Pipecat, in small pipelines; each function prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    TranscriptionFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from pipecat_af3stream import Af3streamQuestionProcessor, Af3streamSTTService
from pipecat_af3stream import stt as stt_module
from recorded import RATE, sentences

FIRST, SECOND = sentences()
stt_module.RETRY_S = 0.1


class Heard(FrameProcessor):
    """Collects frames, and hands out those of a kind in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self._came = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.frames.append(frame)
        self._came.set()
        await self.push_frame(frame, direction)

    def of(self, kind: type[Frame]) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def until(self, kind: type[Frame], count: int) -> None:
        while len(self.of(kind)) < count:
            self._came.clear()
            await self._came.wait()


Drive = Callable[[PipelineWorker, Heard], Awaitable[None]]


async def run(stt: Af3streamSTTService, drive: Drive, *processors: FrameProcessor) -> Heard:
    """Run a pipeline until `drive` ends it."""
    heard = Heard()
    worker = PipelineWorker(
        Pipeline([stt, *processors, heard]), params=PipelineParams(audio_in_sample_rate=RATE), idle_timeout_secs=None
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), drive(worker, heard))
    return heard


async def say(worker: PipelineWorker, blocks: list[bytes]) -> None:
    for block in blocks:
        await worker.queue_frame(InputAudioRawFrame(block, RATE, 1))


async def ask(worker: PipelineWorker, heard: Heard, context: LLMContext, question: str) -> str:
    before, ends = len(heard.of(LLMTextFrame)), len(heard.of(LLMFullResponseEndFrame))
    context.add_message({"role": "user", "content": [{"type": "text", "text": question}]})
    await worker.queue_frame(LLMContextFrame(context))
    await heard.until(LLMFullResponseEndFrame, ends + 1)
    answer = "".join(frame.text for frame in heard.of(LLMTextFrame)[before:])
    context.add_message({"role": "assistant", "content": answer})
    return answer


async def transcribe(url: str) -> Any:
    """Both sentences, to the end of the pipeline."""
    stt = Af3streamSTTService(url, token="secret", speakers=True, words=True)

    async def drive(worker: PipelineWorker, heard: Heard) -> None:
        await say(worker, FIRST + SECOND)
        await worker.queue_frame(EndFrame())

    heard = await run(stt, drive)
    finals = [
        {
            "text": frame.text,
            "user_id": frame.user_id,
            "speaker": frame.result.speaker,
            "words": [[word.text, word.start, word.end] for word in frame.result.words],
        }
        for frame in heard.of(TranscriptionFrame)
    ]
    end = heard.frames.index(heard.of(EndFrame)[0])
    return {"finals": finals, "after_end": [type(frame).__name__ for frame in heard.frames[end + 1 :]]}


async def converse(url: str) -> Any:
    """A question amid the audio, one that follows it up, and a context without a question."""
    stt = Af3streamSTTService(url, token="secret")
    questions = Af3streamQuestionProcessor(stt)
    answers, reach = [], []

    @questions.event_handler("on_answer")
    async def on_answer(_: FrameProcessor, answer: Any) -> None:
        reach.append([answer.question, answer.heard_until])

    async def drive(worker: PipelineWorker, heard: Heard) -> None:
        context = LLMContext()
        await say(worker, FIRST)
        await heard.until(TranscriptionFrame, 1)
        answers.append(await ask(worker, heard, context, "Who is this?"))
        answers.append(await ask(worker, heard, context, "And why?"))
        await worker.queue_frame(LLMContextFrame(LLMContext([])))
        await heard.until(LLMFullResponseEndFrame, 3)
        await worker.queue_frame(EndFrame())

    await run(stt, drive, questions)
    return {"answers": answers, "reach": reach}


async def agent(url: str) -> Any:
    """A bot whose turns are those of the service: what is said is asked."""
    stt = Af3streamSTTService(url, token="secret", turns=True)
    context = LLMContext([{"role": "system", "content": "Answer."}])
    aggregators, answered = LLMContextAggregatorPair(context), asyncio.Event()

    @aggregators.assistant().event_handler("on_assistant_turn_stopped")
    async def on_assistant_turn_stopped(*_: Any) -> None:
        answered.set()

    async def drive(worker: PipelineWorker, heard: Heard) -> None:
        await say(worker, FIRST)
        await answered.wait()
        await worker.queue_frame(EndFrame())

    await run(stt, drive, aggregators.user(), Af3streamQuestionProcessor(stt), aggregators.assistant())
    return [[message["role"], message["content"]] for message in context.get_messages()[1:]]


async def interrupt(url: str) -> Any:
    """A long answer that is interrupted after its first word."""
    stt = Af3streamSTTService(url, token="secret")

    async def drive(worker: PipelineWorker, heard: Heard) -> None:
        await say(worker, FIRST)
        await heard.until(TranscriptionFrame, 1)
        await worker.queue_frame(LLMContextFrame(LLMContext([{"role": "user", "content": "word " * 100}])))
        await heard.until(LLMTextFrame, 1)
        await worker.queue_frame(InterruptionFrame())
        await heard.until(InterruptionFrame, 1)
        await worker.queue_frame(EndFrame())

    heard = await run(stt, drive, Af3streamQuestionProcessor(stt))
    return heard.of(LLMTextFrame)[0].text


async def resume(url: str) -> Any:
    """One sentence in a pipeline that is cancelled; the other in another, with a question about both."""
    first = Af3streamSTTService(url, token="secret")
    heard_s: list[float] = []

    async def cancel(worker: PipelineWorker, heard: Heard) -> None:
        await say(worker, FIRST)
        await heard.until(TranscriptionFrame, 1)
        session = await first.session()
        while session.durable < sum(map(len, FIRST)) // 2:  # noqa: ASYNC110 - the session has no event for it
            await asyncio.sleep(0.01)
        await worker.queue_frame(CancelFrame())

    begun = await run(first, cancel)
    second = Af3streamSTTService(url, token="secret", resume=first.resume_token)
    questions = Af3streamQuestionProcessor(second)

    @questions.event_handler("on_answer")
    async def on_answer(_: FrameProcessor, answer: Any) -> None:
        heard_s.extend((answer.start, answer.heard_until))

    async def finish(worker: PipelineWorker, heard: Heard) -> None:
        await say(worker, SECOND)
        await heard.until(TranscriptionFrame, 1)
        await ask(worker, heard, LLMContext(), "What was said?")
        await worker.queue_frame(EndFrame())

    gone_on = await run(second, finish, questions)
    finals = [frame.text for heard in (begun, gone_on) for frame in heard.of(TranscriptionFrame)]
    return {"finals": finals, "heard": heard_s, "first_s": sum(map(len, FIRST)) / 2 / RATE}


async def refuse(url: str) -> Any:
    """A wrong token."""
    stt = Af3streamSTTService(url, token="wrong")
    errors: list[str] = []
    failed = asyncio.Event()

    @stt.event_handler("on_connection_error")
    async def on_connection_error(_: FrameProcessor, error: str) -> None:
        errors.append(error)
        failed.set()

    async def drive(worker: PipelineWorker, heard: Heard) -> None:
        await failed.wait()
        await worker.queue_frame(EndFrame())

    await run(stt, drive)
    return {"errors": errors, "usable": stt.is_usable}


if __name__ == "__main__":
    function, server = sys.argv[1:3]
    print(json.dumps(asyncio.run(globals()[function](server))))
