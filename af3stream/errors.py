"""The errors that reach users and peers, in one tree.

Af3StreamError                 code            close   open after?
├── SetupError                 -               -       the command line prints one sentence and exits with 2
│   ├── ConfigError            unknown key, wrong type, value out of range
│   ├── ModelError             unknown model, damaged folder, missing licence or download
│   └── SourceError            unreadable file, no such device, missing PortAudio, busy port
├── Refusal                    a peer's request is refused; sent to the peer as ``error{code, ...}``
│   ├── BadMessage             bad_message     4400    yes, until the third
│   │   └── WrongFrame         wrong_frame     1003    no
│   ├── BadFormat              bad_format      4422    no
│   ├── BadAudio               bad_audio       -       yes
│   ├── BadOffset              bad_offset      -       yes
│   ├── OffsetGap              offset_gap      -       yes
│   ├── AudioConflict          audio_conflict  4409    no
│   ├── RateLimited            rate_limited    4429    yes, until the third
│   ├── SlowConsumer           slow_consumer   4408    no
│   ├── IdleTimeout            idle_timeout    4408    no
│   ├── QueryLimit             query_limit     -       yes
│   ├── BadText                bad_text        -       yes
│   ├── UnknownQuestion        unknown_question -      yes
│   ├── UnknownSpeaker         unknown_speaker -       yes
│   ├── BadEnd                 bad_end         -       yes
│   ├── Superseded             superseded      4409    no
│   ├── DataLoss               data_loss       4500    no
│   ├── StorageError           storage_error   -       yes
│   │   └── StorageFull        storage_full    1013    yes
│   ├── NoSession              no_session      4404    no
│   ├── ShuttingDown           shutting_down   1012    no
│   └── EngineFailed           engine_failed   -       yes
│       ├── EngineTimeout      engine_timeout  -       yes
│       └── EngineRestart      engine_restart  -       yes
├── ClientError                of a client's connection or session: `af3stream.client.errors`
└── EngineError                the model could not complete a job
    ├── AlignmentMismatch      "Audio tokens and features mismatch ..."
    ├── PlaceholderMismatch    "Sample X: found N placeholders but audio was split into M window(s)."
    ├── TooManyWindows         more audio than the context window holds
    ├── ContextFull            a prompt that needs more positions than the language model has
    └── BudgetExceeded         a prompt whose keys and values, or embeddings, exceed the configured bytes
"""

from __future__ import annotations

from typing import ClassVar


def quoted(text: object) -> str:
    """Quote a text for an error message: in single quotes, on one line, without escapes."""
    shown = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return f"'{' '.join(shown.split())}'"


class Af3StreamError(Exception):
    """Base of every error the project raises on purpose."""


class SetupError(Af3StreamError):
    """A command cannot start. The command line prints the sentence and exits with code 2."""


class ConfigError(SetupError):
    """The configuration names an unknown key, or a value of the wrong type or outside its range."""


class ModelError(SetupError):
    """A model cannot be found, downloaded, assembled or trusted."""


class SourceError(SetupError):
    """An audio source or an address cannot be opened."""


class Refusal(Af3StreamError):
    """A request of a peer is refused.

    Attributes:
        code: the stable name sent to the peer.
        close_code: the WebSocket close code that ends the connection, or ``None`` if it stays open.
        strikes: the number of such refusals after which ``close_code`` applies.
        retryable: whether the same request may succeed later.
        retry_after_ms: how long to wait before another attempt, if that is known.
        ref: the peer's id of the refused request, if it has one.
        expected_offset: the sample frame at which the next audio must begin, if audio was refused.
    """

    code: ClassVar[str]
    close_code: ClassVar[int | None] = None
    strikes: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, ref: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.ref = ref
        self.retry_after_ms = retry_after_ms
        self.expected_offset: int | None = None


class BadMessage(Refusal):
    """A frame is not a message of the protocol. Its content is never sent back or logged."""

    code, close_code, strikes = "bad_message", 4400, 3


class WrongFrame(BadMessage):
    """A frame is text instead of binary, or binary instead of text."""

    code, close_code, strikes = "wrong_frame", 1003, 1


class BadFormat(Refusal):
    """The service does not accept the audio format, rate or channel count, or the captioner the language or task."""

    code, close_code = "bad_format", 4422


class BadAudio(Refusal):
    """Audio is empty, ends within a sample frame, is too long, or is not finite. None of it is stored."""

    code = "bad_audio"


class BadOffset(Refusal):
    """An offset is outside the valid range, or audio overlaps what was received."""

    code = "bad_offset"


class OffsetGap(Refusal):
    """Audio begins after the next expected sample. It is not stored; the message names the expected offset."""

    code, retryable = "offset_gap", True


class AudioConflict(Refusal):
    """Audio was sent again with other bytes. The first version is kept."""

    code, close_code = "audio_conflict", 4409


class RateLimited(Refusal):
    """Audio exceeds the credit. It is not stored."""

    code, close_code, strikes, retryable = "rate_limited", 4429, 3, True


class SlowConsumer(Refusal):
    """The peer does not read its messages."""

    code, close_code, retryable = "slow_consumer", 4408, True


class IdleTimeout(Refusal):
    """No message arrived for the configured time."""

    code, close_code, retryable = "idle_timeout", 4408, True


class QueryLimit(Refusal):
    """Too many questions are pending, a question is too long, or its id is in use."""

    code, retryable = "query_limit", True


class BadText(Refusal):
    """A text is empty, or has invalid characters."""

    code = "bad_text"


class UnknownQuestion(Refusal):
    """A follow-up names an answer or a question that the session does not have."""

    code = "unknown_question"


class UnknownSpeaker(Refusal):
    """A name for a speaker that the session has not heard, or in a session that does not tell speakers apart."""

    code = "unknown_speaker"


class BadEnd(Refusal):
    """The total of ``end`` differs from the sample frames received."""

    code = "bad_end"


class Superseded(Refusal):
    """Another connection took the session over."""

    code, close_code = "superseded", 4409


class DataLoss(Refusal):
    """Acknowledged data is missing or damaged.

    Attributes:
        start, end: the first lost sample frame or event number, and the first one after the loss.
    """

    code, close_code = "data_loss", 4500

    def __init__(self, what: str, start: int, end: int) -> None:
        super().__init__(f"{what} {start} to {end} of this session are damaged or missing")
        self.start, self.end = start, end


class StorageError(Refusal):
    """A write to the disk failed. Acknowledged data is safe, and pending data is kept in memory."""

    code, retryable = "storage_error", True

    def __init__(self, message: str = "the session could not be stored") -> None:
        super().__init__(message)


class StorageFull(StorageError):
    """The disk is full, or the quota or the reserve is reached."""

    code, close_code = "storage_full", 1013

    def __init__(self) -> None:
        super().__init__("there is no room left to store the session")


class NoSession(Refusal):
    """A message that needs a session arrived without one."""

    code, close_code = "no_session", 4404


class ShuttingDown(Refusal):
    """The server is shutting down."""

    code, close_code, retryable = "shutting_down", 1012, True


class EngineFailed(Refusal):
    """One job failed in the engine. The session continues, and its audio is kept."""

    code, retryable = "engine_failed", True


class EngineTimeout(EngineFailed):
    """One step of a job exceeded its time limit. The job is dropped, and the engine restarts without it."""

    code = "engine_timeout"


class EngineRestart(EngineFailed):
    """The engine ran out of memory. It evicted all keys and values, and runs the job again. Nothing is lost."""

    code = "engine_restart"


class EngineError(Af3StreamError):
    """The model could not complete a job."""


class AlignmentMismatch(EngineError):
    """The number of placeholders in a prompt differs from the number of projected audio frames."""

    def __init__(self, placeholders: int, frames: int) -> None:
        super().__init__(f"Audio tokens and features mismatch: tokens: {placeholders}, features: {frames}")
        self.placeholders, self.frames = placeholders, frames


class PlaceholderMismatch(EngineError):
    """The number of sounds in a text differs from the number of windows of its audio."""

    def __init__(self, sample: int, placeholders: int, windows: int) -> None:
        super().__init__(
            f"Sample {sample}: found {placeholders} placeholders but audio was split into {windows} window(s)."
        )
        self.sample, self.placeholders, self.windows = sample, placeholders, windows


class TooManyWindows(EngineError):
    """The audio has more windows than one prompt may hold. It is not truncated."""

    def __init__(self, windows: int, limit: int) -> None:
        super().__init__(f"audio was split into {windows} windows, and at most {limit} fit one prompt")
        self.windows, self.limit = windows, limit


class ContextFull(EngineError):
    """A prompt needs more positions than the language model has."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"the prompt needs {tokens} positions, and the language model has {limit}")
        self.tokens, self.limit = tokens, limit


class BudgetExceeded(EngineError):
    """One prompt needs more memory than the budget of all sessions."""

    def __init__(self, what: str, needed: int, budget: int) -> None:
        super().__init__(f"the prompt's {what} take {needed} bytes, and all sessions have {budget}")
        self.needed, self.budget = needed, budget
