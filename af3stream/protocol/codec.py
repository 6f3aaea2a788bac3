"""Messages to bytes and back, in MessagePack or JSON. Decoding parses, or raises :class:`BadMessage`, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

from af3stream.errors import BadMessage, WrongFrame
from af3stream.protocol.messages import ClientMessage, ServerMessage

MSGPACK: Final = "af3stream.v1.msgpack"
JSON: Final = "af3stream.v1.json"
SUBPROTOCOLS: Final = (MSGPACK, JSON)

T = TypeVar("T")


class Codec(Generic[T]):
    """One subprotocol's spelling, decoding messages of the peer's union ``T``.

    Attributes:
        binary: whether frames are binary (MessagePack) or text (JSON).
    """

    def __init__(self, subprotocol: str, incoming: object) -> None:
        if subprotocol not in SUBPROTOCOLS:
            raise ValueError(f"unknown subprotocol {subprotocol!r}; expected one of {SUBPROTOCOLS}")
        self.subprotocol = subprotocol
        self.binary = subprotocol == MSGPACK
        decoder = msgspec.msgpack.Decoder if self.binary else msgspec.json.Decoder
        self._decode: Callable[[Any], T] = decoder(incoming).decode

    def decode(self, frame: bytes | str) -> T:
        """Parse one frame.

        Raises:
            WrongFrame: for a text frame in MessagePack, or a binary one in JSON.
            BadMessage: for anything else that is not a message; what was sent is never repeated.
        """
        if isinstance(frame, str) == self.binary:
            raise WrongFrame(f"{self.subprotocol} takes {'binary' if self.binary else 'text'} frames")
        try:
            return self._decode(frame)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise BadMessage(_without_content(error)) from None

    def encode(self, message: ClientMessage | ServerMessage) -> bytes | str:
        """Spell one message as one frame: ``bytes`` for MessagePack, ``str`` for JSON."""
        if self.binary:
            return msgspec.msgpack.encode(message)
        return msgspec.json.encode(message).decode()


def server_codec(subprotocol: str) -> Codec[ClientMessage]:
    """The codec of a server: decodes what clients send."""
    return Codec(subprotocol, ClientMessage)


def client_codec(subprotocol: str) -> Codec[ServerMessage]:
    """The codec of a client: decodes what servers send."""
    return Codec(subprotocol, ServerMessage)


def _without_content(error: Exception) -> str:
    """What is wrong and where, for messages whose shape is wrong; nothing that quotes the peer's own bytes."""
    if not isinstance(error, msgspec.ValidationError):
        return "the frame is not a well-formed message"
    wrong = str(error)
    if wrong.startswith(("Expected ", "Object missing ")):  # of our own types and names; others may quote
        return wrong
    return "the message has an unknown type, field or value"
