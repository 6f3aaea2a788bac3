"""Order the messages that a client sends: audio, within the credit, and requests. No clock, no socket.

Audio and requests are one sequence. Messages that may be lost are kept. After a reconnect they are sent again, from the
offset at which the server stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from af3stream.client.errors import mismatch
from af3stream.client.replay_buffer import ReplayBuffer, Store
from af3stream.protocol.messages import (
    Ack,
    Ask,
    Cancel,
    ClientMessage,
    End,
    Error,
    Flush,
    Format,
    Gap,
    Instruct,
    NameSpeaker,
    Ready,
    Unwatch,
    Watch,
)

PIECE_S: Final = 1  # the most audio in one message
ENVELOPE_BYTES: Final = 256  # upper bound of a message without its audio
SAMPLE_BYTES: Final[dict[Format, int]] = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1}
END_REF: Final = "end"  # `end` has no id on the wire; its refusal is recognised by the code

Request = Ask | Cancel | Watch | Unwatch | Flush | NameSpeaker | Instruct | End
UNANSWERED: Final = Unwatch | NameSpeaker  # kept until the audio after them is durable
REPLACED: Final = Instruct  # kept until the next one, because the server does not


@dataclass(slots=True)
class Placed:
    """A request, and the sample frame before which it is sent."""

    request: Request
    position: int
    said: bool = False  # on the current connection


def frame_bytes(ready: Ready) -> int:
    """Return the bytes of a sample frame."""
    return SAMPLE_BYTES[ready.format] * ready.channels


def credit_frames(ready: Ready) -> int:
    """Return how many sample frames a client may be ahead of ``processed``."""
    return int(ready.credit_s * ready.rate)


class Outgoing:
    """The messages of one session that are sent, or still to be sent. All counts are sample frames.

    Attributes:
        said: sent on the current connection, or received by the server on earlier ones.
        received: received by the server.
        processed: captioned and encoded by the server.
        durable: need not be sent again. Without a journal this is ``received``; without resuming, ``said``.
    """

    def __init__(self, ready: Ready, store: Store) -> None:
        self.said = self.received = ready.received
        self.processed = ready.processed
        self.durable = ready.received if ready.durable is None else ready.durable
        self.frame_bytes = frame_bytes(ready)
        self._kept = ReplayBuffer(self.frame_bytes, store, ready.received)
        self._requests: list[Placed] = []
        self._credit = credit_frames(ready)
        self._mended_to = 0  # audio before this offset is already declared lost
        self._agree(ready)

    @property
    def sent(self) -> int:
        """Sample frames appended so far, as audio or as lost."""
        return self._kept.end

    def pieces(self, frames: int) -> Iterator[int]:
        """Split ``frames`` into parts that fit into one message each."""
        for start in range(0, frames, self._piece):
            yield min(self._piece, frames - start)

    def has_credit(self, frames: int) -> bool:
        """Return whether the credit allows ``frames`` more. If nothing is pending, any number is allowed."""
        return self.sent + min(frames, self._credit) <= self._limit

    def append(self, frames: int, pcm: bytes | None) -> int:
        """Append ``frames`` as audio, or as lost if ``pcm`` is ``None``; return the offset after them."""
        if pcm is None:
            self._kept.append_lost(frames)
        else:
            self._kept.append(pcm)
        return self.sent

    def request(self, request: Request) -> Placed:
        """Append a request, after all earlier audio and requests."""
        if isinstance(request, UNANSWERED | REPLACED):
            self.settled(_ref(request))
        placed = Placed(request, self.sent)
        self._requests.append(placed)
        return placed

    def settled(self, ref: str) -> None:
        """Drop the requests with this id: they have their reply, and are not sent again."""
        for placed in self._requests:
            placed.said = placed.said or _ref(placed.request) == ref
        self._requests = [placed for placed in self._requests if _ref(placed.request) != ref]

    @property
    def flushes(self) -> list[str]:
        """The ids of the flushes without a reply."""
        return [placed.request.id for placed in self._requests if isinstance(placed.request, Flush)]

    @property
    def has_next(self) -> bool:
        """Whether ``next`` has a message to send."""
        placed = self._next_request()
        return bool(placed and placed.position <= self.said) or self._room(placed) > 0

    def next(self) -> ClientMessage:
        """Return the next message to send, and count it as sent. ``has_next`` must be true."""
        placed = self._next_request()
        if placed and placed.position <= self.said:
            placed.said = True
            if not self._keeps:
                self._requests.remove(placed)
            return placed.request
        message = self._kept.piece(self.said, min(self._piece, self._room(placed)))
        self.said += message.frames if isinstance(message, Gap) else len(message.pcm) // self.frame_bytes
        if not self._keeps:
            self._free(self.said)
        return message

    def acknowledged(self, ack: Ack | Ready) -> None:
        """Process an acknowledgement of the server."""
        self.received, self.processed = ack.received, ack.processed
        if self._keeps:
            self._free(ack.received if ack.durable is None else ack.durable)

    def refused(self, error: Error) -> None:
        """Process a refusal. If it names an expected offset, all audio sent from there on is declared lost.

        The audio is declared lost once: later refusals of audio that was already on its way change nothing.
        """
        expected = error.expected_offset
        if expected is not None and self._mended_to <= expected < self.said:
            self._kept.lose(expected, self.said)
            self._mended_to, self.said = self.said, expected

    def resumed(self, ready: Ready) -> None:
        """Continue on a new connection, at the offset where the server stands.

        Raises:
            ServerError: if audio after that offset is no longer kept, or the server has audio that was not sent.
        """
        if not self._kept.begin <= ready.received <= self.sent:
            kept = f"audio is kept from sample frame {self._kept.begin} to {self.sent}"
            raise mismatch("data_loss", f"{kept}, and the server goes on at {ready.received}")
        self._agree(ready)
        self.acknowledged(ready)
        self.said, self._mended_to = ready.received, 0
        for placed in self._requests:
            placed.said = False

    def _agree(self, ready: Ready) -> None:
        self._keeps = bool(ready.resume)
        self._credit = min(self._credit, credit_frames(ready))  # never grows: the kept audio has to fit into the store
        pcm_bytes = (ready.max_frame_bytes - ENVELOPE_BYTES) * 3 // 4  # JSON encodes 3 bytes as 4 characters
        self._piece = max(1, min(PIECE_S * ready.rate, self._credit, pcm_bytes // self.frame_bytes))

    @property
    def _limit(self) -> int:
        """The offset at which the credit ends."""
        return min(self.processed, self.durable) + self._credit

    def _room(self, until: Placed | None) -> int:
        """Return how many frames may be sent now, before the next request."""
        return min(self.sent, self._limit, until.position if until else self.sent) - self.said

    def _next_request(self) -> Placed | None:
        return next((placed for placed in self._requests if not placed.said), None)

    def _free(self, below: int) -> None:
        self.durable = max(self.durable, below)
        self._kept.free(below)
        self._requests = [p for p in self._requests if not (isinstance(p.request, UNANSWERED) and p.position < below)]


def _ref(request: Request) -> str:
    match request:
        case End():
            return END_REF
        case NameSpeaker(speaker=speaker):
            return f"speaker {speaker}"  # no id has a space
        case Instruct():
            return "the instructions"
        case _:
            return request.id
