"""The translation sessions of the Realtime API: English transcripts of what is said, and nothing to answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from af3stream.engine.facts import CaptionerFacts
from af3stream.protocol import messages as m
from af3stream.server.openai_errors import SERVER, ApiError
from af3stream.server.realtime.client_events import Append, ClientEvent, EventDecoder
from af3stream.server.realtime.conversation import Wire, new_id
from af3stream.server.realtime.dialect import CAPTION_ERRORS, EXPIRES_S
from af3stream.server.realtime.settings import PCM_RATE
from af3stream.server.tuned_start import TunedStart

ENGLISH: Final = "en"


class Source(Struct, frozen=True):
    """Transcription of what is said, in its own language."""

    model: str | None = None


class SourceAudio(Struct, frozen=True):
    """Audio from the client."""

    transcription: Source | UnsetType | None = UNSET


class Target(Struct, frozen=True):
    """The translation."""

    language: str | UnsetType | None = UNSET


class TranslationAudio(Struct, frozen=True):
    """Audio of a session."""

    input: SourceAudio | UnsetType | None = UNSET
    output: Target | UnsetType | None = UNSET


class TranslationSettings(Struct, frozen=True):
    """Settings to change; those that are left out stay."""

    audio: TranslationAudio | UnsetType | None = UNSET


class UpdateTranslation(ClientEvent, frozen=True, kw_only=True, tag="session.update"):
    """Change settings."""

    session: TranslationSettings


class AppendToTranslation(Append, frozen=True, kw_only=True, tag="session.input_audio_buffer.append"):
    """Audio."""


class CloseTranslation(ClientEvent, frozen=True, tag="session.close"):
    """End the session once everything is translated."""


class TranslationDialect:
    """Translates between one client of a translation session and its session.

    Args:
        model: what the client calls the model.
        emit: sends an event.

    Attributes:
        decoder: of what the client sends.
        received_s: audio received, in seconds.
    """

    decoder = EventDecoder(UpdateTranslation | AppendToTranslation | CloseTranslation)
    alaw = False

    def __init__(self, model: str, captioner: CaptionerFacts, emit: Callable[..., None]) -> None:
        self.received_s = 0.0
        self._model = model
        self._captioner = captioner
        self._emit = emit
        self._id = new_id("sess")
        self._expires_at = int(time.time()) + EXPIRES_S
        self._source: Source | None = None
        self._told: set[str] = set()  # kinds of transcripts that have begun

    def welcome(self) -> None:
        """Send `session.created`.

        Raises:
            ApiError: if the captioner does not translate.
        """
        if not self._captioner.translates:
            raise ApiError(f"the captioner {self._captioner.name} does not translate", code="unsupported_value")
        self._emit("session.created", session=self._session())

    @property
    def start(self) -> TunedStart:
        """The opening of the session."""
        return TunedStart(rate=PCM_RATE, task="translate", interims=False)

    def take(self, event: ClientEvent) -> None:
        """Handle an update.

        Raises:
            ApiError: for a language other than English.
        """
        if isinstance(event, UpdateTranslation) and (audio := event.session.audio):
            if audio.output and audio.output.language and audio.output.language.lower() != ENGLISH:
                param = "session.audio.output.language"
                raise ApiError("speech is translated to English (en) alone", code="unsupported_value", param=param)
            if audio.input and audio.input.transcription is not UNSET:
                self._source = audio.input.transcription
        self._emit("session.updated", session=self._session())

    def heard(self, seconds: float) -> None:
        """Note that audio was sent to the session."""
        self.received_s += seconds

    def closed(self) -> None:
        """Send `session.closed`."""
        self._emit("session.closed")

    def hear(self, said: m.ServerMessage) -> None:
        """Translate a message to events. Corrections are not sent."""
        match said:
            case m.Caption(final=True) if said.text:
                if self._source is not None:
                    self._tell("input", said.text, said.end)
                self._tell("output", said.translation or said.text, said.end)
            case m.Error(ref=None, code=code, message=text) if code in CAPTION_ERRORS:
                self._emit("error", error=ApiError(text, kind=SERVER, code=code).fields | {"event_id": None})

    replayed = hear

    def processed(self, seconds: float) -> None:
        """Do nothing: nothing waits for it."""

    def _tell(self, kind: str, text: str, end_s: float) -> None:
        between = " " if kind in self._told else ""
        self._told.add(kind)
        self._emit(f"session.{kind}_transcript.delta", delta=between + text, elapsed_ms=round(1_000 * end_s))

    def _session(self) -> Wire:
        return {
            "id": self._id,
            "type": "translation",
            "expires_at": self._expires_at,
            "model": self._model,
            "audio": {
                "input": {"transcription": msgspec.to_builtins(self._source), "noise_reduction": None},
                "output": {"language": ENGLISH},
            },
        }
