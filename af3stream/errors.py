"""Every error that can reach a person or a peer, in one tree.

::

    Af3StreamError                 code            close   open after?
    ├── SetupError                 -               -       the command line prints one sentence and exits with 2
    │   ├── ConfigError            unknown key, wrong type, value out of range
    │   ├── ModelError             unknown model, damaged folder, missing licence or download
    │   └── SourceError            unreadable file, no such device, missing PortAudio, busy port
    ├── Refusal                    a peer's request is refused; told to the peer as ``error{code, ...}``
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
    └── EngineError                the model could not do what it was asked
        ├── AlignmentMismatch      "Audio tokens and features mismatch ..."
        ├── PlaceholderMismatch    "Sample X: found N placeholders but audio was split into M window(s)."
        ├── TooManyWindows         more audio than the horizon holds
        ├── ContextFull            a prompt that does not fit the language model's positions
        └── BudgetExceeded         a prompt whose keys and values, or embeddings, do not fit the configured bytes
"""

from __future__ import annotations

from typing import ClassVar


def quoted(text: object) -> str:
    """Quote a text for a sentence that people read: single quotes, one line, nothing escaped as Python would."""
    shown = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return f"'{' '.join(shown.split())}'"


class Af3StreamError(Exception):
    """Base of every error the project raises on purpose."""


class SetupError(Af3StreamError):
    """Something is wrong before any audio flows; the command line prints the sentence and exits with 2."""


class ConfigError(SetupError):
    """The configuration names an unknown key, or a value of the wrong type or outside its range."""


class ModelError(SetupError):
    """A model cannot be found, downloaded, assembled or trusted."""


class SourceError(SetupError):
    """An audio source or an address cannot be opened."""


class Refusal(Af3StreamError):
    """A peer's request is refused.

    Attributes:
        code: the stable name sent to the peer.
        close_code: the WebSocket close code that ends the connection, or ``None`` where it lives on.
        strikes: how many such refusals a connection survives before ``close_code`` applies.
        retryable: whether the same request may succeed later.
        retry_after_ms: how long to wait before trying again, where that is known.
        ref: the peer's own id of the request refused, where it has one.
        expected_offset: where audio must go on, where audio was refused.
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
    """Bytes that are not a message of the protocol. The content is never repeated to the peer or to a log."""

    code, close_code, strikes = "bad_message", 4400, 3


class WrongFrame(BadMessage):
    """A text frame where the subprotocol has binary ones, or the other way round."""

    code, close_code, strikes = "wrong_frame", 1003, 1


class BadFormat(Refusal):
    """An audio format, rate or channel count the service does not take."""

    code, close_code = "bad_format", 4422


class BadAudio(Refusal):
    """Audio bytes that are empty, misaligned, too long, or not finite. Nothing of them is stored."""

    code = "bad_audio"


class BadOffset(Refusal):
    """An offset outside the range that a session can have."""

    code = "bad_offset"


class OffsetGap(Refusal):
    """Audio that begins after the next expected sample. Nothing is stored; the message names the expected offset."""

    code, retryable = "offset_gap", True


class AudioConflict(Refusal):
    """Audio sent again for a range already received, with other bytes. The first stays."""

    code, close_code = "audio_conflict", 4409


class RateLimited(Refusal):
    """Audio beyond the credit. Nothing is stored."""

    code, close_code, strikes, retryable = "rate_limited", 4429, 3, True


class SlowConsumer(Refusal):
    """The peer does not read what is sent to it."""

    code, close_code, retryable = "slow_consumer", 4408, True


class IdleTimeout(Refusal):
    """Nothing arrived for longer than the configured time."""

    code, close_code, retryable = "idle_timeout", 4408, True


class QueryLimit(Refusal):
    """Too many questions at once, a question that is too long, or an id in use."""

    code, retryable = "query_limit", True


class BadText(Refusal):
    """Text that is empty, or holds characters no question may hold."""

    code = "bad_text"


class UnknownQuestion(Refusal):
    """A follow-up to an answer, or a question, that the session does not have."""

    code = "unknown_question"


class UnknownSpeaker(Refusal):
    """A name for a speaker whom the session has not heard, or in a session that does not tell speakers apart."""

    code = "unknown_speaker"


class BadEnd(Refusal):
    """The total that ``end`` claims is not what was received."""

    code = "bad_end"


class Superseded(Refusal):
    """Another connection took the session over."""

    code, close_code = "superseded", 4409


class DataLoss(Refusal):
    """Something that was acknowledged is not there, or not as it was.

    Attributes:
        start, end: the first sample frame, or event number, of what is lost, and the first after it.
    """

    code, close_code = "data_loss", 4500

    def __init__(self, what: str, start: int, end: int) -> None:
        super().__init__(f"{what} {start} to {end} of this session are damaged or missing")
        self.start, self.end = start, end


class StorageError(Refusal):
    """The disk did not take something. What was acknowledged is safe; what waits is kept."""

    code, retryable = "storage_error", True

    def __init__(self, message: str = "the session could not be stored") -> None:
        super().__init__(message)


class StorageFull(StorageError):
    """No room on the disk, or within the quota and the reserve."""

    code, close_code = "storage_full", 1013

    def __init__(self) -> None:
        super().__init__("there is no room left to store the session")


class NoSession(Refusal):
    """A message that needs a session arrived without one."""

    code, close_code = "no_session", 4404


class ShuttingDown(Refusal):
    """The server is going away and will be back."""

    code, close_code, retryable = "shutting_down", 1012, True


class EngineFailed(Refusal):
    """One job failed in the engine; the session and its audio are unharmed."""

    code, retryable = "engine_failed", True


class EngineTimeout(EngineFailed):
    """One job took longer than a step of the engine may; it is given up, and the engine begins again without it."""

    code = "engine_timeout"


class EngineRestart(EngineFailed):
    """The engine ran out of memory: it gave up all keys and values, and does the job once more. Nothing is lost."""

    code = "engine_restart"


class EngineError(Af3StreamError):
    """The model could not do what it was asked."""


class AlignmentMismatch(EngineError):
    """Placeholders in a prompt and projected audio frames differ in number."""

    def __init__(self, placeholders: int, frames: int) -> None:
        super().__init__(f"Audio tokens and features mismatch: tokens: {placeholders}, features: {frames}")
        self.placeholders, self.frames = placeholders, frames


class PlaceholderMismatch(EngineError):
    """A text names another number of sounds than its audio has windows."""

    def __init__(self, sample: int, placeholders: int, windows: int) -> None:
        super().__init__(
            f"Sample {sample}: found {placeholders} placeholders but audio was split into {windows} window(s)."
        )
        self.sample, self.placeholders, self.windows = sample, placeholders, windows


class TooManyWindows(EngineError):
    """More audio than one prompt may hold; nothing is truncated."""

    def __init__(self, windows: int, limit: int) -> None:
        super().__init__(f"audio was split into {windows} windows, and at most {limit} fit one prompt")
        self.windows, self.limit = windows, limit


class ContextFull(EngineError):
    """A prompt that does not fit the language model's positions."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"the prompt needs {tokens} positions, and the language model has {limit}")
        self.tokens, self.limit = tokens, limit


class BudgetExceeded(EngineError):
    """A prompt that alone takes more memory than all sessions may."""

    def __init__(self, what: str, needed: int, budget: int) -> None:
        super().__init__(f"the prompt's {what} take {needed} bytes, and all sessions have {budget}")
        self.needed, self.budget = needed, budget
