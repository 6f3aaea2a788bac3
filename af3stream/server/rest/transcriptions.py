"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: the captions of a file, whole or as events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from http import HTTPStatus
from itertools import islice, takewhile
from math import inf
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from af3stream.audio.files import stream_blocks
from af3stream.audio.pcm import AudioFormat
from af3stream.errors import SourceError
from af3stream.protocol import messages as m
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.server.caption_hints import language, languages, vocabulary
from af3stream.server.http_answers import respond
from af3stream.server.openai_errors import ApiError
from af3stream.server.rest.file_session import Engines, FileSession
from af3stream.server.rest.formats import TYPES, ResponseFormat, Transcript, as_object, as_text, spoken_segment
from af3stream.server.rest.uploads import UploadEndpoints, event_stream, while_listening

BLOCK_MS: Final = 1_000
Texts = list[str]


class _Fields(msgspec.Struct):
    """The form's fields; others are ignored."""

    model: str = ""
    language: str = ""
    languages: Texts = []
    keywords: Texts = []
    prompt: str = ""
    response_format: ResponseFormat = "json"
    stream: bool = False
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = ("segment",)


class Transcriptions:
    """The two endpoints."""

    def __init__(self, engines: Engines, uploads: UploadEndpoints) -> None:
        self._engines = engines
        self._uploads = uploads

    async def transcribe(self, request: Request, stack: AsyncExitStack) -> Response:
        """Handle a transcription: captions in the language of the audio."""
        return await self._answer(request, stack, "transcribe")

    async def translate(self, request: Request, stack: AsyncExitStack) -> Response:
        """Handle a translation: captions in English."""
        return await self._answer(request, stack, "translate")

    async def _answer(self, request: Request, stack: AsyncExitStack, task: m.Task) -> Response:
        path, given = await self._uploads.form(request, stack)
        fields = _parsed(given)
        if fields.stream and fields.response_format in ("srt", "vtt", "verbose_json"):
            raise ApiError(f"{fields.response_format} is not streamed", param="stream", code="unsupported_value")
        audio, blocks = await asyncio.to_thread(_opened, path)
        captioner = self._engines.facts.captioner
        start = _start(fields, task, audio, captioner.languages)
        if TYPES.get(fields.response_format) and captioner.times_words:
            start = msgspec.structs.replace(start, words=True)  # cues are cut where words are
        session = FileSession(start, self._engines, captions_only=True)
        hearing = _Hearing(session, blocks, self._uploads.config.max_s, task)
        await stack.enter_async_context(session)
        if fields.stream:
            events = hearing.events(spoken=fields.response_format == "diarized_json")
            return event_stream(events, self._uploads.config.answer_s, done=False)
        async with asyncio.timeout(self._uploads.config.answer_s):
            transcript = await while_listening(request, hearing.transcript())
        if kind := TYPES.get(fields.response_format):
            return respond(HTTPStatus.OK, as_text(transcript, fields.response_format).encode(), kind)
        wanted = fields.timestamp_granularities
        answer = as_object(transcript, fields.response_format, words="word" in wanted, segments="segment" in wanted)
        return respond(HTTPStatus.OK, msgspec.json.encode(answer), "application/json")


class _Hearing:
    """The transcription of one file."""

    def __init__(self, session: FileSession, blocks: Iterator[bytes], most_s: float, task: m.Task) -> None:
        self._session = session
        self._blocks = blocks
        self._most_s = most_s
        self._task = task
        self._captions = FinalCaptions()

    async def transcript(self) -> Transcript:
        """Transcribe the whole file."""
        async for _ in self._settled():
            pass
        return self._transcript()

    async def events(self, *, spoken: bool) -> AsyncIterator[dict[str, Any]]:
        """Transcribe the file, and yield an event for each caption when its text is final.

        Args:
            spoken: yield segments with speakers, too.
        """
        number = 0
        async for caption in self._settled():
            text = _told(caption, self._task).text
            if spoken:
                yield spoken_segment(number, _told(caption, self._task))
            yield {"type": "transcript.text.delta", "delta": f" {text}" if number else text}
            number += 1
        transcript = self._transcript()
        yield {"type": "transcript.text.done", "text": transcript.text, "usage": transcript.usage}

    def _transcript(self) -> Transcript:
        captions = [caption for caption in self._captions if caption.text]
        language = next((caption.language for caption in captions if caption.language), "")
        told = [_told(caption, self._task) for caption in captions]
        return Transcript(self._task, told, self._session.seconds, language)

    async def _settled(self) -> AsyncIterator[m.Caption]:
        """Yield each final caption once, when no second pass can change it any more."""
        told = 0
        async for message in self._messages():
            self._captions.add(message)
            for caption in [*takewhile(partial(_ends_by, self._reach(message)), islice(self._captions, told, None))]:
                told += 1
                if caption.text:
                    yield caption

    def _reach(self, message: m.ServerMessage) -> float:
        """Return the time up to which a message says that all work is done, in seconds."""
        match message:
            case m.Ack(processed=processed):
                return processed / self._session.ready.rate
            case m.Ended():
                return inf
        return -inf

    async def _messages(self) -> AsyncIterator[m.ServerMessage]:
        async for message in self._session.send(self._blocks, self._most_s):
            yield message
        async for message in self._session.end():
            yield message


def _ends_by(until: float, caption: m.Caption) -> bool:
    return caption.end <= until


def _told(caption: m.Caption, task: m.Task) -> m.Caption:
    """Return the caption in the language of the task. A translation has no word times."""
    if task == "transcribe":
        return caption
    return msgspec.structs.replace(caption, text=caption.translation or caption.text, words=())


def _parsed(given: dict[str, Any]) -> _Fields:
    listed = {name: [given[name]] for name in ("languages", "keywords") if isinstance(given.get(name), str)}
    try:
        return msgspec.convert({**given, **listed}, _Fields, strict=False)
    except msgspec.ValidationError as error:
        raise _wrong(error) from None


def _start(fields: _Fields, task: m.Task, audio: AudioFormat, known: Sequence[str]) -> m.Start:
    """Return the `start` message of the file's session."""
    given = {
        "type": "start",
        "format": audio.format,
        "rate": audio.rate,
        "channels": audio.channels,
        "language": language(fields.language, known, "language"),
        "languages": languages(fields.languages, known, "languages"),
        "task": None if task == "transcribe" else task,
        "words": "word" in fields.timestamp_granularities,
        "speakers": fields.response_format == "diarized_json",
        "vocabulary": vocabulary(fields.keywords, fields.prompt),
    }
    try:
        return msgspec.convert(given, m.Start)
    except msgspec.ValidationError as error:
        raise _wrong(error) from None


def _wrong(error: msgspec.ValidationError) -> ApiError:
    said, _, place = str(error).replace("`", "").partition(" - at $.")
    return ApiError(said, param=place or None, code="invalid_value")


def _opened(path: Path) -> tuple[AudioFormat, Iterator[bytes]]:
    """Open the audio of a file. Errors do not contain its path."""
    try:
        audio, blocks = stream_blocks(path, BLOCK_MS)
    except SourceError as error:
        raise _unreadable(error, path) from None
    return audio, _checked(blocks, path)


def _checked(blocks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    try:
        yield from blocks
    except SourceError as error:
        raise _unreadable(error, path) from None


def _unreadable(error: SourceError, path: Path) -> ApiError:
    return ApiError(str(error).replace(str(path), "the file"), param="file", code="invalid_file")
