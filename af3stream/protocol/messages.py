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
    """Base of all messages: a frozen map. Fields that it does not know are ignored: a newer server may send them."""


class Request(Message, frozen=True, forbid_unknown_fields=True):
    """Base of what a client says: a map that refuses fields it does not know."""


class Start(Request, frozen=True, tag="start"):
    """Opens the session: what the audio frames will look like, and what the client wants to hear back."""

    format: Format = "pcm_s16le"
    rate: int = 16_000  # Hz
    channels: int = 1
    mode: Mode | None = None  # None: as the server is configured
    interims: bool = True  # captions while an utterance is still open
    resume: str | None = None  # the token of `ready`, to go on with its session; format, rate, ... stay as they were
    last_event: Count = 0  # when resuming: the newest event that arrived; later ones are sent again
    durable: Count = 0  # when resuming: the `durable` that the client knows
    features: Features = ()  # what the client knows beyond the first version; see `af3stream.protocol.features`
    language: Language | None = None  # a code, or "auto"; None: as the server is configured
    languages: Languages = ()  # those that may occur; empty: all that the captioner knows
    task: Task | None = None  # "translate": English beside the original; None: as the server is configured
    words: bool = False  # whether final captions say when each word was said
    speakers: bool | Speaker = False  # whether final captions say who speaks; a number: so many people at most
    vocabulary: Vocabulary = ()  # names and terms that are likely to be said


class Audio(Request, frozen=True, tag="audio"):
    """Sample frames from ``offset`` on, interleaved, in the declared format."""

    offset: int
    pcm: bytes


class Gap(Request, frozen=True, tag="gap"):
    """The client lost ``frames`` sample frames at ``offset`` (a full capture buffer); they count as silence."""

    offset: int
    frames: int


class Scope(Struct, frozen=True, forbid_unknown_fields=True):
    """What a question hears: the windows that reach into the last ``last_s`` seconds."""

    last_s: Duration


class Ask(Request, frozen=True, tag="ask"):
    """A question about what was heard. Without a scope it hears everything within the horizon."""

    id: Id
    text: str
    scope: Scope | None = None
    max_tokens: Positive | None = None  # None: as the server is configured
    after: Positive | Id | None = (
        None  # what it follows up: an answer's `event`, or a question's id (its newest answer)
    )


class Cancel(Request, frozen=True, tag="cancel"):
    """Stops the question ``id``, waiting or being answered."""

    id: Id


class Watch(Request, frozen=True, tag="watch"):
    """A standing question, asked again as windows close, or every ``every_s`` seconds of audio."""

    id: Id
    text: str
    every_s: Duration | None = None  # None: as windows close


class Unwatch(Request, frozen=True, tag="unwatch"):
    """Ends the watch ``id``."""

    id: Id


class Flush(Request, frozen=True, tag="flush"):
    """Finalise now what was heard so far; the session goes on."""

    id: Id


class NameSpeaker(Request, frozen=True, tag="name_speaker"):
    """Gives a speaker a name; an empty one takes it away."""

    speaker: Speaker
    name: SpeakerName


class End(Request, frozen=True, tag="end"):
    """No more audio: ``total`` sample frames were sent or declared lost."""

    total: int


class Ready(Message, frozen=True, tag="ready"):
    """The session exists; how it is set up, and what bounds it."""

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
    resume: str = ""  # names the session when it is resumed; another one each time; empty: it cannot be
    received: int = 0  # when resumed: where audio goes on
    processed: int = 0
    durable: int | None = None  # None: nothing is kept on disk
    last_event: int = 0  # the newest event there is
    features: Features = ()  # all that the server has, for a client that lists any
    language: str = "auto"  # in force
    languages: tuple[str, ...] = ()  # that may occur
    task: Task = "transcribe"
    words: bool = False
    speakers: bool | int = False


class Ack(Message, frozen=True, tag="ack"):
    """Cumulative: all samples below ``received`` have arrived, all below ``processed`` are captioned and encoded."""

    received: int
    processed: int
    durable: int | None = None  # below it nothing is lost, whatever happens; None: nothing is kept on disk


class Speech(Message, frozen=True, tag="speech"):
    """The voice detector heard speech begin or end."""

    state: Literal["started", "stopped"]
    at: float


class Window(Message, frozen=True, tag="window"):
    """A window closed and was encoded: questions hear it from the cache from now on."""

    index: int
    start: float
    end: float
    tokens: int  # projected frames, K


class Word(Struct, frozen=True, forbid_unknown_fields=False):
    """One word of a caption, and when it was said."""

    text: str
    start: float
    end: float
    probability: float


class Caption(Message, frozen=True, tag="caption"):
    """The words of one utterance: interim until ``final`` is true, and then authoritative."""

    utterance: int
    text: str
    start: float
    end: float
    final: bool
    stable: str = ""  # the leading part of `text` that two hypotheses in a row agree on
    event: int | None = None  # of a final caption that is kept: sent again to a client that resumes without it
    language: str | None = None  # a code; None: the captioner does not say
    translation: str = ""  # in English, where the session's task is "translate"
    words: tuple[Word, ...] = ()  # of a final caption, where the session asked for them
    speaker: int | None = None  # of a final caption, where the session asked for it


class CaptionUpdate(Message, frozen=True, tag="caption_update"):
    """Other words for a final caption, by a second pass over its window. Sent only for feature `caption_updates`."""

    utterance: int
    text: str
    start: float
    end: float
    language: str | None = None
    translation: str = ""
    words: tuple[Word, ...] = ()
    speaker: int | None = None


class SpeakerUpdate(Message, frozen=True, tag="speaker_update"):
    """Another speaker for a final caption. Sent only for feature `speakers`."""

    utterance: int
    speaker: int


class SpeakerNamed(Message, frozen=True, tag="speaker_named"):
    """A speaker has a name from now on; an empty one: none any more."""

    speaker: int
    name: str
    event: int | None = None


class AnswerDelta(Message, frozen=True, tag="answer_delta"):
    """The next piece of the answer to ``id``."""

    id: Id
    text: str


class Answer(Message, frozen=True, tag="answer"):
    """The whole answer to ``id``, and what it was made of."""

    id: Id
    text: str
    start: float
    end: float
    windows: int  # closed windows heard
    tokens: int  # tokens generated
    finish: Finish
    ttft_ms: float | None = None  # from the question's arrival to the answer's first token
    event: int | None = None
    heard_until: float | None = None  # where the last audio that stood in the prompt ends; None: there was none
    captions_from: float | None = (
        None  # captions from here on stood in the prompt without a hole; None: there were none
    )
    captioned_until: float | None = None  # where the last of them ends
    question: str = ""  # the text that it answers
    after: Positive | Id | None = (
        None  # what it follows up: an answer's `event`; the question's id where nothing is kept
    )


class WatchHit(Message, frozen=True, tag="watch_hit"):
    """A watch's answer changed."""

    id: Id
    text: str
    start: float
    end: float
    event: int | None = None


class Flushed(Message, frozen=True, tag="flushed"):
    """Every final caption up to ``received`` has been sent."""

    id: Id
    received: int


class Degraded(Message, frozen=True, tag="degraded"):
    """How far behind the service is, and what it has given up by now; each level gives up what those before it do."""

    level: Level
    lag_s: float


class Error(Message, frozen=True, tag="error"):
    """A refusal. ``fatal``: the connection closes after it."""

    code: str
    message: str
    fatal: bool
    retryable: bool
    retry_after_ms: int | None = None
    ref: str | None = None  # the client's id of what was refused
    expected_offset: int | None = None  # where the next audio must begin
    durable: int | None = None  # where nothing is lost below


class Ended(Message, frozen=True, tag="ended"):
    """Everything was delivered. The ledger accounts for every second: received = heard + skipped.

    What was declared lost counts as silence, and so among them.
    """

    total: int
    received_s: float
    heard_s: float  # given to the language model in windows
    skipped_s: float  # no speech, left out in `speech` mode
    lost_s: float  # declared lost by the client
    captioned_s: float  # in utterances
    windows: int
    utterances: int


def error(refusal: Refusal, *, fatal: bool = False, durable: int | None = None) -> Error:
    """A refusal as the message that tells the peer."""
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


ClientMessage = Start | Audio | Gap | Ask | Cancel | Watch | Unwatch | Flush | NameSpeaker | End
ServerMessage = (
    Ready
    | Ack
    | Speech
    | Window
    | Caption
    | CaptionUpdate
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
