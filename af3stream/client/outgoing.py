"""What a client says, in its order: audio at its offsets and within the credit, and requests. No clock, no socket.

Audio and requests are one sequence. What was said and may not last is kept, so that another connection can say it again
from where the server stands.
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
    NameSpeaker,
    Ready,
    Unwatch,
    Watch,
)

PIECE_S: Final = 1  # the most audio in one message
ENVELOPE_BYTES: Final = 256  # more than a message needs around its audio
SAMPLE_BYTES: Final[dict[Format, int]] = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1}
END_REF: Final = "end"  # `end` has no id on the wire; its refusal is known by its code

Request = Ask | Cancel | Watch | Unwatch | Flush | NameSpeaker | End
UNANSWERED: Final = (Unwatch, NameSpeaker)  # kept until the audio after them is durable


@dataclass(slots=True)
class Placed:
    """A request, and the sample frame before which it is said."""

    request: Request
    position: int
    said: bool = False  # on the present connection


def frame_bytes(ready: Ready) -> int:
    """The size of a sample frame."""
    return SAMPLE_BYTES[ready.format] * ready.channels


def credit_frames(ready: Ready) -> int:
    """How far a client may run ahead, in sample frames."""
    return int(ready.credit_s * ready.rate)


class Outgoing:
    """The client's side of a session. All counts are sample frames at the session's rate.

    Attributes:
        said: said on the present connection, or known to the server from those before.
        received: what the server says it has.
        processed: what the server says is captioned and encoded.
        durable: below it, nothing has to be said again; without a journal what is received, and at worst what is said.
    """

    def __init__(self, ready: Ready, store: Store) -> None:
        self.said = self.received = ready.received
        self.processed = ready.processed
        self.durable = ready.received if ready.durable is None else ready.durable
        self.frame_bytes = frame_bytes(ready)
        self._kept = ReplayBuffer(self.frame_bytes, store, ready.received)
        self._requests: list[Placed] = []
        self._credit = credit_frames(ready)
        self._mended_to = 0  # a refusal below is of audio that is already declared lost
        self._agree(ready)

    @property
    def sent(self) -> int:
        """Sample frames that have an offset, as audio or as lost."""
        return self._kept.end

    def pieces(self, frames: int) -> Iterator[int]:
        """``frames`` in parts that fit a message each."""
        for start in range(0, frames, self._piece):
            yield min(self._piece, frames - start)

    def has_credit(self, frames: int) -> bool:
        """Whether so many frames may follow now; more than the whole credit may when nothing is under way."""
        return self.sent + min(frames, self._credit) <= self._limit

    def append(self, frames: int, pcm: bytes | None) -> int:
        """The next ``frames``; without ``pcm``, as lost. Returns where they end."""
        if pcm is None:
            self._kept.append_lost(frames)
        else:
            self._kept.append(pcm)
        return self.sent

    def request(self, request: Request) -> Placed:
        """A request, after all that was appended and requested before."""
        if isinstance(request, UNANSWERED):
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
        """Whether :meth:`next` has a message to send."""
        placed = self._next_request()
        return bool(placed and placed.position <= self.said) or self._room(placed) > 0

    def next(self) -> ClientMessage:
        """The next message of an :class:`Outgoing` that has one; it counts as said."""
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
        """The server refused audio, if it names the offset that it expects: all that was said from there on is lost.

        It is declared lost once: refusals of what was under way by then need no second gap.
        """
        expected = error.expected_offset
        if expected is not None and self._mended_to <= expected < self.said:
            self._kept.lose(expected, self.said)
            self._mended_to, self.said = self.said, expected

    def resumed(self, ready: Ready) -> None:
        """Another connection goes on where the server stands.

        Raises:
            ServerError: when audio between there and what is kept is lost, or the server has audio that was not sent.
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
        self._credit = min(self._credit, credit_frames(ready))  # never more: what is kept has to fit its store
        pcm_bytes = (ready.max_frame_bytes - ENVELOPE_BYTES) * 3 // 4  # JSON spells 3 bytes as 4 characters
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
        case _:
            return request.id
