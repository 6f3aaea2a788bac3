"""Streaming speech-to-text over protocol v1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from livekit import rtc
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectionError,
    APIConnectOptions,
    LanguageCode,
    NotGivenOr,
    stt,
    utils,
)
from livekit.agents.types import TimedString

from af3stream.client import Caption, ClientError, Error, ResumeToken, ServerMessage, Session, Speech, connect

from .errors import api_error
from .log import logger

RATE: Final = 16_000  # Hz; the framework resamples what is pushed
BLOCK: Final = RATE // 20  # sample frames a message: 50 ms


class STT(stt.STT):
    """Transcribe with an af3stream server. Use one object per conversation: `LLM` asks about its newest stream.

    Each stream is one session. A lost connection is restored without loss of audio, and a stream that the framework
    restarts resumes its session. `on("message", callback)` hands over each message of the server, among them those
    that LiveKit has no event for: corrections (`CaptionUpdate`), speakers' names and watch hits.

    Args:
        url: the server's address, such as `ws://127.0.0.1:8765`.
        token: sent as `Authorization: Bearer`.
        language: of the speech, a code or `auto`; `None` for the server's own choice.
        languages: codes that may occur; empty for all that the captioner knows.
        vocabulary: names and terms that are likely to be said.
        speakers: whether finals say who speaks (`SpeechData.speaker_id`); a number: so many people at most.
        words: whether finals say when each word was said (`SpeechData.words`).
        interims: whether partial captions arrive.
        resume: a session that the first stream continues, for example `SpeechStream.resume_token` of another process.
    """

    def __init__(
        self,
        url: str = "ws://127.0.0.1:8765",
        *,
        token: str | None = None,
        language: str | None = None,
        languages: Sequence[str] = (),
        vocabulary: Sequence[str] = (),
        speakers: bool | int = False,
        words: bool = False,
        interims: bool = True,
        resume: ResumeToken | None = None,
    ) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(
                streaming=True,
                interim_results=interims,
                diarization=bool(speakers),
                aligned_transcript="word" if words else "chunk",
                offline_recognize=False,
            )
        )
        self._connect = partial(
            connect,
            url,
            token=token,
            rate=RATE,
            languages=[LanguageCode(code).language for code in languages],
            vocabulary=vocabulary,
            speakers=speakers,
            words=words,
            interims=interims,
        )
        self._language, self._resume = language, resume
        self._session: Session | None = None
        self._opened = asyncio.Event()

    @property
    def model(self) -> str:
        """The captioner, once a session is open."""
        return self._session.ready.captioner if self._session else "unknown"

    @property
    def provider(self) -> str:
        """The server's software."""
        return "af3stream"

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> SpeechStream:
        """Open a session. A language here takes the place of the one above."""
        resume, self._resume = self._resume, None
        return SpeechStream(
            self,
            language=language if utils.is_given(language) else self._language,
            conn_options=conn_options,
            resume=resume,
        )

    async def session(self, timeout_s: float) -> Session:
        """Return the session of the newest stream, for `ask`, `watch` and `name_speaker`; wait until one is open.

        Raises:
            APIConnectionError: if none opens within `timeout_s` seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._opened.wait()
        except TimeoutError:
            raise APIConnectionError("no stream of the STT is open") from None
        assert self._session
        return self._session

    async def _recognize_impl(
        self, buffer: utils.AudioBuffer, *, language: NotGivenOr[str], conn_options: APIConnectOptions
    ) -> stt.SpeechEvent:
        raise NotImplementedError("this STT only streams")

    @asynccontextmanager
    async def _open(
        self, language: str | None, resume: ResumeToken | None, open_timeout: float
    ) -> AsyncIterator[Session]:
        code = LanguageCode(language).language if language else None  # without a region
        async with self._connect(language=code, resume=resume, open_timeout=open_timeout) as session:
            self._session = session
            self._opened.set()
            try:
                yield session
            finally:
                if self._session is session:
                    self._session = None
                    self._opened.clear()


class SpeechStream(stt.RecognizeStream):
    """One stream of audio, in one session.

    `flush` ends the open utterance and window. `end_input` ends the session; the stream ends after its last final.
    After `aclose` without `end_input`, the session can be resumed.
    """

    def __init__(
        self, owner: STT, *, language: str | None, conn_options: APIConnectOptions, resume: ResumeToken | None
    ) -> None:
        self._owner, self._language, self._resume = owner, language, resume
        self._origin_s = 0.0  # of the session's audio, where the newest connection of this stream began
        self._reported = 0  # sample frames in usage events
        super().__init__(stt=owner, conn_options=conn_options, sample_rate=RATE)

    @property
    def resume_token(self) -> ResumeToken | None:
        """What resumes the session, also in another process; `None` if the server keeps no sessions."""
        return self._resume

    async def _run(self) -> None:
        try:
            async with self._owner._open(self._language, self._resume, self._conn_options.timeout) as session:
                self._origin_s, self._reported = session.sent / RATE, session.sent
                self._note(session, 0)
                tasks = [asyncio.create_task(self._send(session)), asyncio.create_task(self._receive(session))]
                try:
                    await asyncio.gather(*tasks)
                finally:
                    await utils.aio.cancel_and_wait(*tasks)
        except ClientError as error:
            raise api_error(error) from error

    async def _send(self, session: Session) -> None:
        blocks = utils.audio.AudioByteStream(RATE, 1, BLOCK)
        flushes: set[asyncio.Task[None]] = set()
        try:
            async for item in self._input_ch:
                flush = not isinstance(item, rtc.AudioFrame)
                if not flush and item.num_channels != 1:
                    raise ValueError(f"the audio has {item.num_channels} channels, not 1")
                for block in blocks.flush() if flush else blocks.push(item.data):
                    await session.send(bytes(block.data))
                if flush:
                    flushes.add(task := asyncio.create_task(_flush(session)))
                    task.add_done_callback(flushes.discard)
                    await asyncio.sleep(0)  # the flush is sent before what follows
            await session.end()
        finally:
            await utils.aio.cancel_and_wait(*flushes)

    async def _receive(self, session: Session) -> None:
        async for message in session:
            self._note(session, getattr(message, "event", None) or 0)
            self._owner.emit("message", message)
            self._handle(session, message)
        self._report_usage(session)

    def _note(self, session: Session, event: int) -> None:
        """Keep what resumes the session after this event."""
        last = max(event, self._resume.last_event if self._resume else 0)
        self._resume = ResumeToken(session.ready.resume, last) if session.ready.resume else None

    def _handle(self, session: Session, message: ServerMessage) -> None:
        kinds = stt.SpeechEventType
        match message:
            case Speech(state="started"):
                self._emit(kinds.START_OF_SPEECH, speech_start_time=self._wall_time(message.at))
            case Speech():
                self._emit(kinds.END_OF_SPEECH, speech_end_time=self._wall_time(message.at))
            case Caption() if message.text:
                kind = kinds.FINAL_TRANSCRIPT if message.final else kinds.INTERIM_TRANSCRIPT
                self._emit(kind, request_id=str(message.utterance), alternatives=[self._speech_data(message)])
                if message.final:
                    self._report_usage(session)
            case Error():
                logger.warning("the server refused: %s (%s)", message.message, message.code)

    def _speech_data(self, caption: Caption) -> stt.SpeechData:
        speaker = None if caption.speaker is None else str(caption.speaker)
        words = [
            TimedString(
                word.text,
                start_time=self._stream_time(word.start),
                end_time=self._stream_time(word.end),
                confidence=word.probability,
                start_time_offset=self.start_time_offset,
                speaker_id=speaker,
            )
            for word in caption.words
        ]
        return stt.SpeechData(
            language=LanguageCode(caption.language or self._language or ""),
            text=caption.text,
            start_time=self._stream_time(caption.start),
            end_time=self._stream_time(caption.end),
            speaker_id=speaker,
            words=words or None,
        )

    def _stream_time(self, at: float) -> float:
        """Turn seconds of the session into seconds of the framework's axis; audio from before a resume is at 0."""
        return max(0.0, at - self._origin_s + self.start_time_offset)

    def _wall_time(self, at: float) -> float:
        return self.start_time + at - self._origin_s

    def _report_usage(self, session: Session) -> None:
        audio_s, self._reported = (session.sent - self._reported) / RATE, session.sent
        self._emit(
            stt.SpeechEventType.RECOGNITION_USAGE, recognition_usage=stt.RecognitionUsage(audio_duration=audio_s)
        )

    def _emit(self, kind: stt.SpeechEventType, **fields: object) -> None:
        self._event_ch.send_nowait(stt.SpeechEvent(type=kind, **fields))


async def _flush(session: Session) -> None:
    with suppress(ClientError):  # what ends the session is raised by `send`; a refusal is among the messages
        await session.flush()
