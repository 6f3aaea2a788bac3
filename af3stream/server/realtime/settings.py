"""A Realtime session's settings: updated by the client, mapped to a session of the service, and told."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct

from af3stream.config import AudioConfig
from af3stream.engine.facts import CaptionerFacts
from af3stream.protocol.messages import Mode
from af3stream.server.caption_hints import language, languages, vocabulary
from af3stream.server.openai_errors import ApiError
from af3stream.server.realtime.client_events import Format, Input, Tokens, Transcription, TurnDetection, Update
from af3stream.server.tuned_start import TunedStart, cutting

PCM_RATE: Final = 24_000  # Hz, unless the client says another
G711_RATE: Final = 8_000
EAGERNESS_MS: Final = {"low": 1_500, "high": 300}  # of silence that ends an item; else as configured
LOGPROBS: Final = "item.input_audio_transcription.logprobs"
DIARIZE: Final = "-diarize"  # ends the names of models that tell speakers

Kind = Literal["realtime", "transcription"]
Wire = dict[str, Any]


class Settings(Struct, frozen=True):
    """Settings in force.

    Attributes:
        transcription: ``None``: transcripts are not told, in a conversation.
        turn_detection: ``None``: the client commits.
        instructions: the system turn of every response.
        words, speakers: what `segment` events tell.
        logprobs: whether `completed` tells how probable each word is.
    """

    kind: Kind = "realtime"
    model: str = ""
    format: Format = Format()
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = TurnDetection()
    instructions: str = ""
    max_output_tokens: Tokens = "inf"
    words: bool = False
    speakers: bool | int = False
    logprobs: bool = False
    mode: Mode | None = None

    def updated(self, update: Update) -> Settings:
        """Return the settings after a client's update."""
        given = update.audio.input if update.audio is not UNSET and update.audio.input is not UNSET else Input()
        beyond = update.af3stream
        changed: Wire = {
            "kind": update.type,
            "model": _or(update.model, ""),
            "format": _or(given.format, Format()),
            "transcription": given.transcription,
            "turn_detection": given.turn_detection,
            "instructions": _or(update.instructions, ""),
            "max_output_tokens": _or(update.max_output_tokens, "inf"),
            "words": UNSET if beyond is UNSET else beyond.words,
            "speakers": UNSET if beyond is UNSET else beyond.speakers,
            "logprobs": UNSET if update.include is UNSET else LOGPROBS in (update.include or ()),
        }
        return msgspec.structs.replace(self, **{name: value for name, value in changed.items() if value is not UNSET})

    def amid_audio(self, update: Update) -> Settings:
        """Return the settings after an update of a conversation that has heard audio.

        How speech is cut and written down stays, because a session cannot be set up anew without losing what it heard.

        Raises:
            ApiError: for another format: the audio that follows would be taken for noise.
        """
        new = self.updated(update)
        if new.format != self.format:
            param = "session.audio.input.format"
            raise ApiError("the format stays once audio has come", code="cannot_update_format", param=param)
        before = self.turn_detection or TurnDetection()
        if (detection := new.turn_detection) is not None:
            detection = msgspec.structs.replace(
                before,
                create_response=detection.create_response,
                interrupt_response=detection.interrupt_response,
                idle_timeout_ms=detection.idle_timeout_ms,
            )
        heard = self.transcription or Transcription()
        return msgspec.structs.replace(
            new,
            turn_detection=detection,
            transcription=None if new.transcription is None else heard,
            words=self.words,
            speakers=self.speakers,
            logprobs=self.logprobs,
        )

    @property
    def rate(self) -> int:
        """Samples a second, in Hz."""
        return (self.format.rate or PCM_RATE) if self.format.type == "audio/pcm" else G711_RATE

    @property
    def tells_transcripts(self) -> bool:
        """Whether the client gets transcripts."""
        return self.kind == "transcription" or self.transcription is not None

    @property
    def creates_responses(self) -> bool:
        """Whether an item that the server ends is answered."""
        detection = self.turn_detection
        return self.kind == "realtime" and detection is not None and detection.create_response is not False

    @property
    def interrupts(self) -> bool:
        """Whether speech cancels the response under way."""
        detection = self.turn_detection
        return self.kind == "realtime" and detection is not None and detection.interrupt_response is not False

    def start(self, captioner: CaptionerFacts) -> TunedStart:
        """Return the opening of a session of the service.

        Raises:
            ApiError: for a language that the captioner does not know, or log probabilities that it does not have.
        """
        if self.logprobs and not captioner.times_words:
            said = f"the captioner {captioner.name} does not tell how probable words are"
            raise ApiError(said, code="unsupported_value", param="session.include")
        heard = self.transcription or Transcription()
        diarizes = (heard.model or self.model).endswith(DIARIZE)
        known, param = captioner.languages, "session.audio.input.transcription.language"
        start = TunedStart(
            format="mulaw" if self.format.type == "audio/pcmu" else "pcm_s16le",
            rate=self.rate,
            mode=self.mode,
            language=language(heard.language, known, param),
            languages=languages(heard.languages or (), known, param + "s"),
            words=(self.words or self.logprobs) and captioner.times_words,
            speakers=self.speakers or diarizes,
            vocabulary=vocabulary(heard.keywords or (), heard.prompt),
            instructions=self.instructions,
        )
        return msgspec.structs.replace(start, **self._cutting)

    @property
    def _cutting(self) -> dict[str, int | None]:
        """How speech is cut; ``None``: as configured."""
        detection = self.turn_detection or TurnDetection()
        pause_ms = detection.silence_duration_ms
        if detection.type == "semantic_vad":
            pause_ms = EAGERNESS_MS.get(detection.eagerness or "auto")
        return cutting(detection.threshold, detection.prefix_padding_ms, pause_ms)

    def wire(self, session_id: str, expires_at: int, audio: AudioConfig) -> Wire:
        """Return the session as clients are told of it."""
        heard = {
            "format": self._format(),
            "transcription": None if self.transcription is None else msgspec.to_builtins(self.transcription),
            "noise_reduction": None,
            "turn_detection": self._detection(audio),
        }
        common = {"type": self.kind, "id": session_id, "expires_at": expires_at}
        common["include"] = [LOGPROBS] if self.logprobs else None
        if self.kind == "transcription":
            return {**common, "object": "realtime.transcription_session", "audio": {"input": heard}}
        output = {"format": {"type": "audio/pcm", "rate": PCM_RATE}, "voice": "alloy", "speed": 1.0}
        return {
            **common,
            "object": "realtime.session",
            "model": self.model,
            "output_modalities": ["text"],
            "instructions": self.instructions,
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": self.max_output_tokens,
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "audio": {"input": heard, "output": output},
        }

    def _format(self) -> Wire:
        return {"type": self.format.type} | ({"rate": self.rate} if self.format.type == "audio/pcm" else {})

    def _detection(self, audio: AudioConfig) -> Wire | None:
        """The turn detection with every value that is in force."""
        detection = self.turn_detection
        if detection is None:
            return None
        answers = {} if self.kind == "transcription" else {
            "create_response": self.creates_responses,
            "interrupt_response": self.interrupts,
        }  # fmt: skip
        if detection.type == "semantic_vad":
            return {"type": detection.type, "eagerness": detection.eagerness or "auto", **answers}
        own = {name: value for name, value in self._cutting.items() if value is not None}
        return {
            "type": detection.type,
            "threshold": 0.5 if detection.threshold is None else detection.threshold,
            "prefix_padding_ms": own.get("speech_pad_ms", audio.speech_pad_ms),
            "silence_duration_ms": own.get("pause_ms", audio.pause_ms),
            "idle_timeout_ms": detection.idle_timeout_ms,
            **answers,
        }


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
