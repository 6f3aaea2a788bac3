"""What a gateway and an engine say to each other: tagged structs in MessagePack, several in one WebSocket frame.

The gateway connects with the engine's key and says `Hello`; the engine says `Welcome`. Then both send frames, each a
list of messages. What is about a session carries the session's fence and a number that counts the messages of this
sender about it. A frame that is one `Credit` says how many bytes of other frames were processed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct
from websockets.typing import Subprotocol

from af3stream.cluster.audio_window import Chunk, Range
from af3stream.engine.contract import AudioSegment
from af3stream.engine.facts import EngineFacts
from af3stream.engine.jobs import AnswerJob, CaptionJob, ExtendJob, Job, Result, VoiceJob
from af3stream.engine.serialisation import decode_array, encode_array

SUBPROTOCOL: Final = Subprotocol("af3stream.engine.v1")
MAX_FRAME_BYTES: Final = 32 << 20  # the facts hold a tokenizer; a window of 30 s is 2 MB


class BadFrame(ValueError):
    """A frame is no list of messages of its direction."""


class EngineLoad(Struct, frozen=True, tag=True):
    """How much an engine has to do. It is told several times a second.

    Attributes:
        sessions: those of all gateways.
        kv_bytes: keys and values that are written, or reserved for a running job.
        kv_sessions: the sessions that have some of them.
        kv_limit_bytes: the most that there may be; 0: no limit.
        embedding_bytes: embeddings that are resident, or reserved for a running job.
        busy_s: seconds that the device has worked.
        due_s: of them, those for what cannot be shed.
        short_s: how long a job has waited for memory that others have, in seconds; 0: none does.
        draining: whether the engine is about to stop.
    """

    sessions: int = 0
    kv_bytes: int = 0
    kv_limit_bytes: int = 0
    embedding_bytes: int = 0
    busy_s: float = 0.0
    due_s: float = 0.0
    short_s: float = 0.0
    draining: bool = False
    kv_sessions: int = 0


class Hello(Struct, frozen=True, tag=True):
    """The first message of a gateway.

    Attributes:
        gateway: its name. A connection replaces an earlier one of the same gateway.
        credit: bytes that the engine may send before the gateway has processed them.
    """

    gateway: str
    credit: int


class Welcome(Struct, frozen=True, tag=True):
    """The first message of an engine.

    Attributes:
        facts: of the engine.
        audio_window: samples of a session's newest audio that both ends keep.
        credit: bytes that the gateway may send before the engine has processed them.
    """

    facts: EngineFacts
    load: EngineLoad
    audio_window: int
    credit: int


class Credit(Struct, frozen=True, tag=True):
    """So many bytes of the other end's frames were processed."""

    bytes: int


class SessionMessage(Struct, frozen=True):
    """What messages about a session have in common.

    Attributes:
        fence: of the gateway that has the session; a higher one takes the session over.
        opening: counts the `Open` messages of this connection. So what is late is not taken for what is new if a
            session is closed and opened again.
        sequence: counts the messages of one sender about this opening, from 0.
    """

    session: str
    fence: int
    opening: int
    sequence: int


Number = tuple[str, int, int, int]  # session, fence, opening, sequence


# ---- from the gateway ------------------------------------------------------------------------------------------------


class Open(SessionMessage, frozen=True, tag=True):
    """Begin a session, or take it over with its caches. ``rereads``: its older audio can be read."""

    rereads: bool


class Submit(SessionMessage, frozen=True, tag=True):
    """Do a job.

    Attributes:
        job: without samples.
        ranges: those of its samples, in the order of `af3stream.engine.jobs.samples_of`.
        audio: what of these ranges the engine lacks.
    """

    job: Job
    ranges: tuple[Range, ...]
    audio: tuple[Chunk, ...]


class Cancel(SessionMessage, frozen=True, tag=True):
    """Drop the job with this id."""

    job: int


class Attach(SessionMessage, frozen=True, tag=True):
    """Do the session's jobs in their turn."""


class Detach(SessionMessage, frozen=True, tag=True):
    """Do the session's jobs only when no other session has any."""


class Close(SessionMessage, frozen=True, tag=True):
    """Drop the session's jobs and caches."""


class Samples(SessionMessage, frozen=True, tag=True):
    """The answer to `Read`. ``audio`` is ``None`` if the samples are gone."""

    segment: AudioSegment
    audio: Chunk | None


# ---- from the engine -------------------------------------------------------------------------------------------------


class Reported(SessionMessage, frozen=True, tag=True):
    """A result of the job with this id; ``done``: the last one."""

    job: int
    result: Result
    done: bool


class Resident(SessionMessage, frozen=True, tag=True):
    """The closed windows of the session that have embeddings."""

    segments: tuple[AudioSegment, ...]


class Read(SessionMessage, frozen=True, tag=True):
    """The engine needs the samples of a closed window again."""

    segment: AudioSegment


class Superseded(Struct, frozen=True, tag=True):
    """The session has a higher fence: another gateway has it."""

    session: str
    fence: int


FromGateway = Open | Submit | Cancel | Attach | Detach | Close | Samples | Credit | Hello
FromEngine = Reported | Resident | Read | Superseded | EngineLoad | Credit | Welcome
Received = TypeVar("Received")

_encoder: Final = msgspec.msgpack.Encoder(enc_hook=encode_array)


def encode(message: FromGateway | FromEngine) -> bytes:
    """Return one message as it stands in a frame."""
    return _encoder.encode(message)


def frame(messages: Sequence[bytes]) -> bytes:
    """Return the frame of encoded messages."""
    return _encoder.encode([Raw(message) for message in messages])


class Frames(Generic[Received]):
    """Decodes the frames of one direction.

    Args:
        kind: `FromGateway` or `FromEngine`.
    """

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(list[kind], dec_hook=decode_array)

    def decode(self, data: bytes | str) -> list[Received]:
        """Return the messages of a frame.

        Raises:
            BadFrame: if it holds anything else.
        """
        if isinstance(data, str):
            raise BadFrame("a frame is binary")
        try:
            messages: list[Received] = self._decoder.decode(data)
        except msgspec.DecodeError as error:
            raise BadFrame(str(error)) from None
        return messages


from_gateway: Final[Frames[FromGateway]] = Frames(FromGateway)
from_engine: Final[Frames[FromEngine]] = Frames(FromEngine)


def is_urgent(job: Job) -> bool:
    """Return whether somebody waits for a job: what belongs to it is sent at once."""
    match job:
        case AnswerJob() | VoiceJob() | CaptionJob(final=True) | CaptionJob(urgent=True) | ExtendJob(urgent=True):
            return True
        case _:
            return False
