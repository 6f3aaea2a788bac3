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
from typing import Annotated, Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from af3stream.audio.files import stream_blocks
from af3stream.audio.pcm import AudioFormat
from af3stream.engine.facts import CaptionerFacts
from af3stream.errors import SourceError
from af3stream.protocol import messages as m
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.server.caption_hints import language, languages, vocabulary
from af3stream.server.http_answers import respond
from af3stream.server.logprobs import word_logprobs
from af3stream.server.openai_errors import ApiError
from af3stream.server.rest.file_session import Engines, FileSession
from af3stream.server.rest.formats import TYPES, Fields, ResponseFormat, Transcript, as_object, as_text, spoken_segment
from af3stream.server.rest.uploads import UploadEndpoints, event_stream, while_listening
from af3stream.server.tuned_start import TunedStart, cutting

BLOCK_MS: Final = 1_000
CHUNKING: Final = "chunking_strategy"
LISTS: Final = ("languages", "keywords", "include", "timestamp_granularities", "known_speaker_names")  # or one text
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=600_000)]
Texts = list[str]


class _Chunking(msgspec.Struct):
    """How speech is cut; what is left out is as configured."""

    type: Literal["server_vad"]
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    prefix_padding_ms: Milliseconds | None = None
    silence_duration_ms: Annotated[int, msgspec.Meta(ge=1, le=600_000)] | None = None


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
    include: tuple[Literal["logprobs"], ...] = ()
    chunking_strategy: Literal["auto"] | _Chunking = "auto"
    known_speaker_names: Texts = []
    known_speaker_references: Texts = []

    @property
    def words(self) -> bool:
        """Whether `verbose_json` has words."""
        return self.response_format == "verbose_json" and "word" in self.timestamp_granularities

    @property
    def logprobs(self) -> bool:
        """Whether `json` has log probabilities."""
        return bool(self.include)


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
        captioner = self._engines.facts.captioner
        _check(fields, task, captioner)
        audio, blocks = await asyncio.to_thread(_opened, path)
        start = _start(fields, task, audio, captioner.languages)
        if TYPES.get(fields.response_format) and captioner.times_words:
            start = msgspec.structs.replace(start, words=True)  # cues are cut where words are
        session = FileSession(start, self._engines, captions_only=True)
        if start.speakers and not session.ready.speakers:
            raise _unsupported("response_format", "this server does not tell speakers apart")
        hearing = _Hearing(session, blocks, self._uploads.config.max_s, task)
        await stack.enter_async_context(session)
        if fields.stream:
            spoken = fields.response_format == "diarized_json"
            events = hearing.events(spoken=spoken, logprobs=fields.logprobs)
            return event_stream(events, self._uploads.config.answer_s, done=False)
        async with asyncio.timeout(self._uploads.config.answer_s):
            transcript = await while_listening(request, hearing.transcript())
        if kind := TYPES.get(fields.response_format):
            return respond(HTTPStatus.OK, as_text(transcript, fields.response_format).encode(), kind)
        segments = "segment" in fields.timestamp_granularities
        answer = as_object(
            transcript, fields.response_format, words=fields.words, segments=segments, logprobs=fields.logprobs
        )
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

    async def events(self, *, spoken: bool, logprobs: bool) -> AsyncIterator[Fields]:
        """Transcribe the file, and yield an event for each caption when its text is final.

        Args:
            spoken: yield segments with speakers, too.
            logprobs: tell how probable each word is.
        """
        number = 0
        async for settled in self._settled():
            caption, before = _told(settled, self._task), " " * bool(number)
            if spoken:
                yield spoken_segment(number, caption)
            probable = {"logprobs": word_logprobs(caption, before)} if logprobs else {}
            yield {"type": "transcript.text.delta", "delta": before + caption.text, **probable}
            number += 1
        transcript = self._transcript()
        probable = {"logprobs": transcript.logprobs} if logprobs else {}
        yield {"type": "transcript.text.done", "text": transcript.text, **probable, "usage": transcript.usage}

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
    return msgspec.structs.replace(caption, text=caption.translation or caption.text, translation="", words=())


def _parsed(given: dict[str, Any]) -> _Fields:
    listed = {name: [given[name]] for name in LISTS if isinstance(given.get(name), str)}
    chunking = {name[len(CHUNKING) + 1 : -1]: value for name, value in given.items() if name.startswith(f"{CHUNKING}[")}
    nested: dict[str, Any] = {CHUNKING: chunking} if chunking else {}
    if str(given.get(CHUNKING, "")).startswith("{"):
        try:
            nested = {CHUNKING: msgspec.json.decode(given[CHUNKING])}
        except msgspec.DecodeError:
            raise ApiError("it is neither auto nor JSON", param=CHUNKING, code="invalid_value") from None
    try:
        return msgspec.convert({**given, **listed, **nested}, _Fields, strict=False)
    except msgspec.ValidationError as error:
        raise _wrong(error) from None


def _check(fields: _Fields, task: m.Task, captioner: CaptionerFacts) -> None:
    """Refuse what cannot be answered.

    Raises:
        ApiError: naming the field.
    """
    kind = fields.response_format
    if fields.stream and kind in ("srt", "vtt", "verbose_json"):
        raise _unsupported("stream", f"{kind} is not streamed")
    if fields.known_speaker_names or fields.known_speaker_references:
        raise _unsupported("known_speaker_names", "speakers are told apart, and not recognised by samples of them")
    if fields.words and not captioner.times_words:
        raise _unsupported("timestamp_granularities", f"the captioner {captioner.name} does not time words")
    if fields.logprobs and kind != "json":
        raise _unsupported("include", f"only json has logprobs, not {kind}")
    if fields.logprobs and task == "translate":
        raise _unsupported("include", "a translation has no logprobs")
    if fields.logprobs and not captioner.times_words:
        raise _unsupported("include", f"the captioner {captioner.name} does not tell how probable words are")


def _unsupported(param: str, message: str) -> ApiError:
    return ApiError(message, param=param, code="unsupported_value")


def _start(fields: _Fields, task: m.Task, audio: AudioFormat, known: Sequence[str]) -> TunedStart:
    """Return the `start` message of the file's session."""
    given = {
        "type": "start",
        "format": audio.format,
        "rate": audio.rate,
        "channels": audio.channels,
        "language": language(fields.language, known, "language"),
        "languages": languages(fields.languages, known, "languages"),
        "task": None if task == "transcribe" else task,
        "words": fields.words or fields.logprobs,
        "speakers": fields.response_format == "diarized_json",
        "vocabulary": vocabulary(fields.keywords, fields.prompt),
    }
    try:
        start = msgspec.convert(given, TunedStart)
    except msgspec.ValidationError as error:
        raise _wrong(error) from None
    if (cut := fields.chunking_strategy) == "auto":
        return start
    return msgspec.structs.replace(start, **cutting(cut.threshold, cut.prefix_padding_ms, cut.silence_duration_ms))


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
