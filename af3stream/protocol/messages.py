"""Protocol v1: every message, typed and frozen.

A message is a map with a ``type`` field. ``offset``, ``received``, ``processed`` and ``total`` count sample frames at
the rate the client declared, from the session's start. ``start``, ``end`` and ``at`` are seconds of audio on the same
axis. Clock durations carry their unit in their name.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from af3stream.errors import Refusal

_ID, _FEATURE = r"\A[A-Za-z0-9._:-]{1,64}\Z", r"\A[a-z0-9_]{1,64}\Z"
RULES: Final = {_ID: "1 to 64 of A-Z a-z 0-9 . _ : -", _FEATURE: "1 to 64 of a-z 0-9 _"}  # by pattern, in words
Id = Annotated[str, Meta(pattern=_ID, description="chosen by the client, unique while in use")]
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Duration = Annotated[float, Meta(gt=0, le=1e6)]  # seconds
Format = Literal["pcm_s16le", "pcm_f32le", "mulaw"]
Mode = Literal["speech", "everything"]
Finish = Literal["stop", "length", "cancelled"]
Level = Literal["none", "interims_stretched", "interims_dropped", "answers_queued", "finals_late", "sessions_refused"]
Feature = Annotated[str, Meta(pattern=_FEATURE)]
Features = Annotated[tuple[Feature, ...], Meta(max_length=64)]
Language = Annotated[str, Meta(min_length=2, max_length=8)]  # a code such as "en"
Languages = Annotated[tuple[Language, ...], Meta(max_length=32)]
Task = Literal["transcribe", "translate"]
Term = Annotated[str, Meta(min_length=1, max_length=64)]
Vocabulary = Annotated[tuple[Term, ...], Meta(max_length=200)]
Speaker = Annotated[int, Meta(ge=1, le=64)]
SpeakerName = Annotated[str, Meta(max_length=64)]


class Message(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """Base of all messages. A decoder ignores unknown fields, which a newer server may send."""


class Request(Message, frozen=True, forbid_unknown_fields=True):
    """Base of the client's messages. A decoder refuses unknown fields."""


class Start(Request, frozen=True, tag="start"):
    """Open or resume a session: the audio format, and the messages that the client wants."""

    format: Format = "pcm_s16le"
    rate: int = 16_000  # Hz
    channels: int = 1
    mode: Mode | None = None  # None: the setting of the server
    interims: bool = True  # captions while an utterance is still open
    resume: str | None = None  # the token of `ready`, to resume its session; format, rate, ... do not change
    last_event: Count = 0  # when resuming: the newest event that arrived; later ones are sent again
    durable: Count = 0  # when resuming: the `durable` that the client knows
    features: Features = ()  # what the client knows beyond the first version; see `af3stream.protocol.features`
    language: Language | None = None  # a code, or "auto"; None: the setting of the server
    languages: Languages = ()  # the languages that may occur; empty: all of the captioner
    task: Task | None = None  # "translate": also in English; None: the setting of the server
    words: bool = False  # whether final captions say when each word was said
    speakers: bool | Speaker = False  # whether final captions have a speaker; a number: the most speakers
    vocabulary: Vocabulary = ()  # names and terms that are likely to be said
    instructions: str = ""  # the system turn of every question's prompt; empty: the model's own


class Audio(Request, frozen=True, tag="audio"):
    """Send sample frames from ``offset`` on, interleaved, in the declared format."""

    offset: int
    pcm: bytes


class Gap(Request, frozen=True, tag="gap"):
    """Declare ``frames`` sample frames at ``offset`` lost. They count as silence."""

    offset: int
    frames: int


class Scope(Struct, frozen=True, forbid_unknown_fields=True):
    """Limit a question to the windows that overlap the last ``last_s`` seconds."""

    last_s: Duration


class Ask(Request, frozen=True, tag="ask"):
    """Ask about the audio. Without a scope, the question is about the whole context window."""

    id: Id
    text: str
    scope: Scope | None = None
    max_tokens: Positive | None = None  # None: as the server is configured
    after: Positive | Id | None = (
        None  # what it follows up: an answer's `event`, or a question's id (its newest answer)
    )


class Cancel(Request, frozen=True, tag="cancel"):
    """Cancel the question ``id``, whether it waits or is being answered."""

    id: Id


class Watch(Request, frozen=True, tag="watch"):
    """Start a standing question, evaluated as windows close, or every ``every_s`` seconds of audio."""

    id: Id
    text: str
    every_s: Duration | None = None  # None: as windows close


class Unwatch(Request, frozen=True, tag="unwatch"):
    """Stop the watch ``id``."""

    id: Id


class Flush(Request, frozen=True, tag="flush"):
    """End the open utterance and window now. The session continues."""

    id: Id


class NameSpeaker(Request, frozen=True, tag="name_speaker"):
    """Name a speaker; an empty name removes it."""

    speaker: Speaker
    name: SpeakerName


class Instruct(Request, frozen=True, tag="instruct"):
    """Change the instructions: the system turn of the questions that follow. Empty ones are the model's own."""

    text: str


class End(Request, frozen=True, tag="end"):
    """Declare the audio complete: ``total`` sample frames were sent or declared lost."""

    total: int


class Ready(Message, frozen=True, tag="ready"):
    """Answer `start`: the settings and limits of the session."""

    session: str
    server: str  # name and version
    model: str
    captioner: str
    format: Format
    rate: int
    channels: int
    mode: Mode
    window_s: float  # the longest window
    horizon_windows: int  # how many windows a question can hear
    credit_s: float  # how many seconds of audio a client may run ahead of `processed`
    max_frame_bytes: int
    max_question_chars: int
    max_questions: int
    resume: str = ""  # the token that resumes the session, new on each connection; empty: it cannot be resumed
    received: int = 0  # when resumed: the offset of the next audio
    processed: int = 0
    durable: int | None = None  # None: nothing is kept on disk
    last_event: int = 0  # the newest event there is
    features: Features = ()  # all that the server has, for a client that lists any
    language: str = "auto"  # in force
    languages: tuple[str, ...] = ()  # that may occur
    task: Task = "transcribe"
    words: bool = False
    speakers: bool | int = False
    max_instructions_chars: int = 0


class Ack(Message, frozen=True, tag="ack"):
    """Acknowledge all samples below ``received`` as arrived, and all below ``processed`` as captioned and encoded."""

    received: int
    processed: int
    durable: int | None = None  # everything below is on disk; None: nothing is kept on disk


class Speech(Message, frozen=True, tag="speech"):
    """Report that speech began or ended at ``at`` seconds."""

    state: Literal["started", "stopped"]
    at: float


class Window(Message, frozen=True, tag="window"):
    """Report that a window closed and was encoded."""

    index: int
    start: float
    end: float
    tokens: int  # projected frames, K


class Word(Struct, frozen=True, forbid_unknown_fields=False):
    """One word of a caption, with its times in seconds."""

    text: str
    start: float
    end: float
    probability: float


class Caption(Message, frozen=True, tag="caption"):
    """The words of one utterance. Before ``final``, they may change."""

    utterance: int
    text: str
    start: float
    end: float
    final: bool
    stable: str = ""  # the leading part of `text` that two hypotheses in a row agree on
    event: int | None = None  # of a final caption that is kept; it is sent again after a resume if the client missed it
    language: str | None = None  # a language code; None: unknown
    translation: str = ""  # in English, if the session's task is "translate"
    words: tuple[Word, ...] = ()  # of a final caption, if the session asked for them
    speaker: int | None = None  # of a final caption, if the session asked for it


class CaptionUpdate(Message, frozen=True, tag="caption_update"):
    """Correct a final caption, after a second pass over its window. Sent only with the feature `caption_updates`."""

    utterance: int
    text: str
    start: float
    end: float
    language: str | None = None
    translation: str = ""
    words: tuple[Word, ...] = ()
    speaker: int | None = None


class Sound(Message, frozen=True, tag="sound"):
    """Name a sound that is no speech, as a caption in brackets. Sent only with the feature `sounds`."""

    text: str
    start: float
    end: float


class SpeakerUpdate(Message, frozen=True, tag="speaker_update"):
    """Assign a final caption to another speaker. Sent only with the feature `speakers`."""

    utterance: int
    speaker: int


class SpeakerNamed(Message, frozen=True, tag="speaker_named"):
    """Report the new name of a speaker; empty: the name was removed."""

    speaker: int
    name: str
    event: int | None = None


class AnswerDelta(Message, frozen=True, tag="answer_delta"):
    """The next piece of the answer to ``id``."""

    id: Id
    text: str


class Answer(Message, frozen=True, tag="answer"):
    """The whole answer to ``id``, and the audio and captions that the prompt held."""

    id: Id
    text: str
    start: float
    end: float
    windows: int  # closed windows in the prompt
    tokens: int  # tokens generated
    finish: Finish
    ttft_ms: float | None = None  # from the question's arrival to the answer's first token
    event: int | None = None
    heard_until: float | None = None  # end of the last audio in the prompt; None: there was none
    captions_from: float | None = None  # the prompt has all captions from here to `captioned_until`; None: it has none
    captioned_until: float | None = None  # end of the last caption in the prompt
    question: str = ""  # the text of the question
    after: Positive | Id | None = None  # what it follows up: an answer's `event`; the question's id if nothing is kept


class WatchHit(Message, frozen=True, tag="watch_hit"):
    """Report that the answer of a watch has changed."""

    id: Id
    text: str
    start: float
    end: float
    event: int | None = None


class Flushed(Message, frozen=True, tag="flushed"):
    """Answer `flush`: every final caption up to ``received`` has been sent."""

    id: Id
    received: int


class Degraded(Message, frozen=True, tag="degraded"):
    """Report the lag, and the work that the service sheds. Each level also sheds the work of the levels before it."""

    level: Level
    lag_s: float


class Error(Message, frozen=True, tag="error"):
    """Refuse a message. If ``fatal`` is true, the connection closes after it."""

    code: str
    message: str
    fatal: bool
    retryable: bool
    retry_after_ms: int | None = None
    ref: str | None = None  # the client's id of the refused request
    expected_offset: int | None = None  # the offset at which the next audio must begin
    durable: int | None = None  # everything below is on disk


class Ended(Message, frozen=True, tag="ended"):
    """Report that everything was delivered, and account for every second: received = heard + skipped.

    Lost audio counts as silence, and so it is part of heard or skipped.
    """

    total: int
    received_s: float
    heard_s: float  # in windows
    skipped_s: float  # in no window
    lost_s: float  # declared lost by the client
    captioned_s: float  # in utterances
    windows: int
    utterances: int


def error(refusal: Refusal, *, fatal: bool = False, durable: int | None = None) -> Error:
    """Return the message for a refusal."""
    return Error(
        code=refusal.code,
        message=str(refusal),
        fatal=fatal,
        retryable=refusal.retryable,
        retry_after_ms=refusal.retry_after_ms,
        ref=refusal.ref,
        expected_offset=refusal.expected_offset,
        durable=durable,
    )


ClientMessage = Start | Audio | Gap | Ask | Cancel | Watch | Unwatch | Flush | NameSpeaker | Instruct | End
ServerMessage = (
    Ready
    | Ack
    | Speech
    | Window
    | Caption
    | CaptionUpdate
    | Sound
    | SpeakerUpdate
    | SpeakerNamed
    | AnswerDelta
    | Answer
    | WatchHit
    | Flushed
    | Degraded
    | Error
    | Ended
)
