"""`POST /v1/chat/completions`: one question about the audio in the request."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.files import stream_blocks
from af3stream.audio.pcm import PcmDecoder
from af3stream.errors import SourceError
from af3stream.protocol import messages as m
from af3stream.server.http_answers import respond
from af3stream.server.openai_errors import ApiError
from af3stream.server.prompts import with_chat
from af3stream.server.rest.chat_request import ChatRequest, read_chat
from af3stream.server.rest.file_session import Engines, FileSession
from af3stream.server.rest.uploads import UploadEndpoints, event_stream, while_listening

BLOCK_MS: Final = 1_000
FINISH: Final = {"stop": "stop", "length": "length", "cancelled": "stop"}
START: Final = m.Start("pcm_f32le", SAMPLE_RATE, 1)

Fields = dict[str, Any]


class Chat:
    """The endpoint."""

    def __init__(self, engines: Engines, uploads: UploadEndpoints) -> None:
        self._engines = engines
        self._uploads = uploads

    async def complete(self, request: Request, stack: AsyncExitStack) -> Response:
        """Answer the last message of a chat about its audio."""
        body = await self._uploads.body(request, stack)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="af3stream-")))
        asked = await asyncio.to_thread(read_chat, body, folder)
        start = msgspec.structs.replace(START, instructions=asked.instructions)
        session = await stack.enter_async_context(FileSession(start, self._engines, captions_only=False))
        answering = _Answering(session, asked, self._uploads.config.max_s, self._engines.config.questions.max_chars)
        if asked.stream:
            return event_stream(answering.chunks(), self._uploads.config.answer_s, done=True)
        async with asyncio.timeout(self._uploads.config.answer_s):
            answer = await while_listening(request, answering.whole())
        return respond(HTTPStatus.OK, msgspec.json.encode(answer), "application/json")


class _Answering:
    """The answer to one request."""

    def __init__(self, session: FileSession, asked: ChatRequest, most_s: float, max_chars: int) -> None:
        self._session = session
        self._asked = asked
        self._most_s = most_s
        self._max_chars = max_chars
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._windows: list[m.Window] = []

    async def whole(self) -> Fields:
        """Return the answer as one object."""
        async for message in self._messages():
            if isinstance(message, m.Answer):
                spoken: Fields = {"role": "assistant", "content": message.text, "refusal": None, "annotations": []}
                choice = {"message": spoken, "finish_reason": FINISH[message.finish], "logprobs": None}
                return self._object("chat.completion", choice, usage=self._usage(message))
        raise AssertionError("an answer ends the messages")

    async def chunks(self) -> AsyncIterator[Fields]:
        """Yield the answer in pieces."""
        yield self._chunk({"role": "assistant", "content": "", "refusal": None})
        async for message in self._messages():
            if isinstance(message, m.AnswerDelta):
                yield self._chunk({"content": message.text})
            else:
                yield self._chunk({}, FINISH[message.finish])
                if self._asked.include_usage:
                    yield {**self._chunk({}), "choices": [], "usage": self._usage(message)}

    async def _messages(self) -> AsyncIterator[m.AnswerDelta | m.Answer]:
        asked = self._asked
        async for message in self._session.send(_samples(asked.audio), self._most_s):
            self._take(message)
        question = with_chat(asked.question, "", asked.earlier, self._max_chars)
        async for answered in self._session.ask(question, asked.max_tokens, self._take):
            yield answered

    def _take(self, message: m.ServerMessage) -> None:
        if isinstance(message, m.Window):
            self._windows.append(message)

    def _usage(self, answer: m.Answer) -> Fields:
        """Return the usage: audio frames in the prompt, and tokens of the answer."""
        heard = sum(window.tokens for window in self._windows if window.end > answer.start)
        return {
            "prompt_tokens": heard,
            "completion_tokens": answer.tokens,
            "total_tokens": heard + answer.tokens,
            "prompt_tokens_details": {"audio_tokens": heard, "cached_tokens": 0},
        }

    def _chunk(self, delta: Fields, finish: str | None = None) -> Fields:
        return self._object("chat.completion.chunk", {"delta": delta, "finish_reason": finish, "logprobs": None})

    def _object(self, kind: str, choice: Fields, **more: Any) -> Fields:
        model = self._asked.model or self._session.ready.model
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": model,
            "choices": [{"index": 0, **choice}],
            **more,
        }


def _samples(paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield the audio of all files in order, in blocks of float32 samples at 16 kHz."""
    for number, path in enumerate(paths, start=1):
        try:
            audio, blocks = stream_blocks(path, BLOCK_MS)
            decoder = PcmDecoder(audio)
            for block in blocks:
                yield from _nonempty(decoder.decode(block).astype("<f4").tobytes())
            yield from _nonempty(decoder.finish().astype("<f4").tobytes())
        except SourceError as error:
            said = str(error).replace(str(path), f"audio part {number}")
            raise ApiError(said, param="messages", code="invalid_file") from None


def _nonempty(pcm: bytes) -> Iterator[bytes]:
    if pcm:
        yield pcm
