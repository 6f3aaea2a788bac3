"""Streaming speech-to-text over protocol v1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from loguru import logger
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterimTranscriptionFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    STTMetadataFrame,
    TranscriptionFrame,
)
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService
from pipecat.transcriptions.language import Language
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.utils.time import time_now_iso8601

from af3stream.client import (
    Caption,
    ClientError,
    Error,
    NetworkError,
    ResumeToken,
    ServerMessage,
    Session,
    Speech,
    TemporaryError,
    connect,
)
from af3stream.errors import Af3StreamError

FINAL_P99_S: Final = 2.5  # from the end of speech to its final caption, `mini` on two cores (docs/measurements.md)
OPEN_S: Final = 10.0  # that a question waits for a session
END_S: Final = 30.0  # that `EndFrame` waits for the last final
HELD_BLOCKS: Final = 15_000  # of audio that wait for a session, 5 minutes at 20 ms; then the oldest are dropped
RETRY_S: Final = 5.0  # between two attempts to open a session, if the server names no time


class Af3streamSTTService(STTService):
    """Transcribe with an af3stream server. One service is one session.

    A lost connection is restored without loss of audio. `EndFrame` goes on after the last final. `result` of a frame
    is the server's `Caption`, with words and speaker; with `speakers`, `user_id` is the speaker's number.

    Event handlers, besides those of `STTService`:
        on_message: called with each message of the server, among them those that Pipecat has no frame for:
            corrections (`CaptionUpdate`), speakers' names and watch hits.

    Args:
        url: the server's address, such as `ws://127.0.0.1:8765`.
        token: sent as `Authorization: Bearer`.
        language: of the speech, a code or `auto`; `None` for the server's own choice.
        languages: codes that may occur; empty for all that the captioner knows.
        vocabulary: names and terms that are likely to be said.
        speakers: whether finals say who speaks; a number: so many people at most.
        words: whether finals say when each word was said.
        interims: whether partial captions arrive.
        turns: whether the server's voice detection begins and ends the user's turns; `False` if the pipeline has its
            own.
        resume: a session to continue, for example `resume_token` of another process.
        ttfs_p99_latency: seconds from the end of speech to its final caption that Pipecat plans with.
        **options: those of `STTService`.
    """

    def __init__(
        self,
        url: str = "ws://127.0.0.1:8765",
        *,
        token: str | None = None,
        language: Language | str | None = None,
        languages: Sequence[str] = (),
        vocabulary: Sequence[str] = (),
        speakers: bool | int = False,
        words: bool = False,
        interims: bool = True,
        turns: bool = False,
        resume: ResumeToken | None = None,
        ttfs_p99_latency: float = FINAL_P99_S,
        **options: Any,
    ) -> None:
        settings = STTSettings(model=None, language=language)
        super().__init__(settings=settings, ttfs_p99_latency=ttfs_p99_latency, **options)
        self._connect = partial(
            connect,
            url,
            token=token,
            languages=languages,
            vocabulary=vocabulary,
            speakers=speakers,
            words=words,
            interims=interims,
        )
        self._turns, self._resume = turns, resume
        self._session: Session | None = None
        self._opened = asyncio.Event()
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue(HELD_BLOCKS)
        self._task: asyncio.Task[None] | None = None
        self._register_event_handler("on_message")

    @property
    def resume_token(self) -> ResumeToken | None:
        """What resumes the session, also in another process; `None` if the server keeps no sessions."""
        return self._resume

    async def session(self) -> Session:
        """Return the session, for `ask`, `watch` and `name_speaker`; wait until it is open.

        Raises:
            NetworkError: if it does not open within `OPEN_S` seconds.
        """
        try:
            async with asyncio.timeout(OPEN_S):
                await self._opened.wait()
        except TimeoutError:
            raise NetworkError("the service has no open session") from None
        assert self._session
        return self._session

    def language_to_service_language(self, language: Language) -> str | None:
        """Return the language without its region."""
        return language.value.split("-")[0]

    def can_generate_metrics(self) -> bool:
        """Return whether the time to a final is measured."""
        return True

    def service_metadata_frame(self) -> STTMetadataFrame:
        """Recommend turn strategies that go by the server's voice detection, if it is to begin and end turns."""
        frame = super().service_metadata_frame()
        if self._turns:
            frame.user_turn_strategies = ExternalUserTurnStrategies()
        return frame

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Open the session."""
        await super().setup(setup)
        self._task = self.create_task(self._run())

    async def stop(self, frame: EndFrame) -> None:
        """End the session, and wait for its last final, at most `END_S` seconds."""
        self._put(None)
        if self._task:
            await asyncio.wait((self._task,), timeout=END_S)
            await self._leave()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        """Leave the session at once; it can be resumed."""
        await super().cancel(frame)
        await self._leave()

    async def cleanup(self) -> None:
        """Leave the session."""
        await super().cleanup()
        await self._leave()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Queue audio for the session; transcripts are pushed as they arrive."""
        self._put(audio)
        yield None

    def _put(self, audio: bytes | None) -> None:
        if self._audio.full():
            self._audio.get_nowait()
        self._audio.put_nowait(audio)

    async def _update_settings(self, delta: STTSettings) -> dict[str, Any]:
        changed = await super()._update_settings(delta)
        self._warn_unhandled_updated_settings(changed)
        return changed

    async def _leave(self) -> None:
        if self._task:
            await self.cancel_task(self._task)
            self._task = None

    async def _run(self) -> None:
        """Hold the session until it ends. If it is lost for good, try to resume it."""
        while True:
            try:
                return await self._converse()
            except Af3StreamError as error:
                temporary = isinstance(error, TemporaryError)
                await self._call_event_handler("on_connection_error", str(error))
                await self.push_error(str(error), exception=error, force_treat_as_permanent=not temporary)
                if not isinstance(error, TemporaryError):
                    return
                await asyncio.sleep(error.retry_after_s or RETRY_S)

    async def _converse(self) -> None:
        options = {"rate": self.sample_rate, "language": self._settings.language, "resume": self._resume}
        async with self._connect(**options) as session:
            self._session = session
            self._note(session, 0)
            self._opened.set()
            await self._call_event_handler("on_connected")
            sending = self.create_task(self._send(session))
            try:
                async for message in session:
                    self._note(session, getattr(message, "event", None) or 0)
                    await self._call_event_handler("on_message", message)
                    await self._handle(message)
            finally:
                self._opened.clear()
                await self.cancel_task(sending)
                await self._call_event_handler("on_disconnected")

    async def _send(self, session: Session) -> None:
        with suppress(ClientError):  # what ends the session is raised to the reader of its messages
            while (audio := await self._audio.get()) is not None:
                await session.send(audio)
            await session.end()

    def _note(self, session: Session, event: int) -> None:
        """Keep what resumes the session after this event."""
        last = max(event, self._resume.last_event if self._resume else 0)
        self._resume = ResumeToken(session.ready.resume, last) if session.ready.resume else None

    async def _handle(self, message: ServerMessage) -> None:
        match message:
            case Caption() if message.text:
                if message.final:
                    await self.emit_stt_usage_metrics()
                kind = TranscriptionFrame if message.final else InterimTranscriptionFrame
                speaker = self._user_id if message.speaker is None else str(message.speaker)
                language = _language(message.language)
                await self.push_frame(kind(message.text, speaker, time_now_iso8601(), language, message))
            case Speech() if self._turns:
                started = message.state == "started"
                await self.broadcast_frame(
                    ProposedUserStartedSpeakingFrame if started else ProposedUserStoppedSpeakingFrame
                )
            case Error():
                logger.warning(f"{self}: the server refused: {message.message} ({message.code})")


def _language(code: str | None) -> Language | None:
    """Return the framework's language; `None` for one that it does not know."""
    try:
        return Language(code) if code else None
    except ValueError:
        return None
