"""Encode messages as MessagePack or JSON, and decode them.

A frame that is not a message raises `BadMessage`. In a server, a wrong value of a known field raises that field's error
(`BadFormat`, `BadOffset`), and text that is not Unicode raises `BadText`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar, get_args

import msgspec

from af3stream.errors import BadFormat, BadMessage, BadOffset, BadText, Refusal, WrongFrame
from af3stream.protocol.messages import RULES, ClientMessage, ServerMessage

MSGPACK: Final = "af3stream.v1.msgpack"
JSON: Final = "af3stream.v1.json"
SUBPROTOCOLS: Final = (MSGPACK, JSON)

Refusals = Mapping[str, type[Refusal]]  # the error for a wrong value, by field

_CLIENT_FIELDS: Final[Refusals] = {
    "format": BadFormat, "rate": BadFormat, "channels": BadFormat, "offset": BadOffset,
    "language": BadFormat, "languages": BadFormat, "task": BadFormat, "vocabulary": BadFormat,
}  # fmt: skip
_VALUE: Final = re.compile(
    r"(?:Expected |Invalid enum value |Number out of range).* - at `\$\.(\w+)(?:\[\d+\])?`", re.DOTALL
)
_WRONG: Final = re.compile(r"(?P<what>Expected .+?|Object missing .+?)(?: - at `\$\.?(?P<place>.*)`)?", re.DOTALL)
_PAIR: Final = re.compile(r"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..")  # and an escaped backslash
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")

_SERVER_TYPES: Final = frozenset(str(kind.__struct_config__.tag) for kind in get_args(ServerMessage))

T = TypeVar("T")


class _Typed(msgspec.Struct):
    """The type of any message."""

    type: str


class Codec(Generic[T]):
    """Encode messages for one subprotocol, and decode the peer's messages, a union ``T``.

    Attributes:
        binary: whether frames are binary (MessagePack), not text (JSON).
    """

    def __init__(self, subprotocol: str, incoming: object, fields: Refusals | None = None) -> None:
        if subprotocol not in SUBPROTOCOLS:
            raise ValueError(f"unknown subprotocol {subprotocol!r}; expected one of {SUBPROTOCOLS}")
        self.subprotocol = subprotocol
        self.binary = subprotocol == MSGPACK
        self._fields = fields or {}
        decoder = msgspec.msgpack.Decoder if self.binary else msgspec.json.Decoder
        self._decode: Callable[[Any], T] = decoder(incoming).decode

    def decode(self, frame: bytes | str) -> T:
        """Parse one frame.

        Raises:
            WrongFrame: for a text frame in MessagePack, or a binary frame in JSON.
            BadFormat, BadOffset: in a server, if a value of these fields has a wrong type or range.
            BadText: in a server, if text is not valid UTF-8, or has half a surrogate pair.
            BadMessage: for any other frame that is not a message. The error never quotes the frame.
        """
        if isinstance(frame, str) == self.binary:
            raise WrongFrame(f"{self.subprotocol} takes {'binary' if self.binary else 'text'} frames")
        try:
            return self._decode(frame)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise self._refusal(error, frame) from None

    def _refusal(self, error: Exception, frame: bytes | str) -> Refusal:
        if self._fields and not isinstance(error, msgspec.ValidationError) and _not_unicode(error, frame):
            return BadText("the message holds text that is not valid Unicode")
        value = _VALUE.fullmatch(str(error))
        if value and (kind := self._fields.get(value[1])):
            return kind(f"the field {value[1]} has no value that it can have")
        return BadMessage(_without_content(error))

    def encode(self, message: ClientMessage | ServerMessage) -> bytes | str:
        """Encode one message as one frame: ``bytes`` for MessagePack, ``str`` for JSON."""
        if self.binary:
            return msgspec.msgpack.encode(message)
        return msgspec.json.encode(message).decode()


def server_codec(subprotocol: str) -> Codec[ClientMessage]:
    """Return the codec of a server, which decodes clients' messages."""
    return Codec(subprotocol, ClientMessage, _CLIENT_FIELDS)


class ClientCodec(Codec[ServerMessage]):
    """The codec of a client. It ignores messages that a newer server may send."""

    def __init__(self, subprotocol: str) -> None:
        super().__init__(subprotocol, ServerMessage)
        decoder = msgspec.msgpack.Decoder if self.binary else msgspec.json.Decoder
        self._decode_type: Callable[[Any], _Typed] = decoder(_Typed).decode

    def decode_known(self, frame: bytes | str) -> ServerMessage | None:
        """Parse one frame; return ``None`` for a message of an unknown type.

        Raises:
            WrongFrame, BadMessage: as in `decode`.
        """
        try:
            return self.decode(frame)
        except WrongFrame:
            raise
        except BadMessage:
            if self._is_unknown(frame):
                return None
            raise

    def _is_unknown(self, frame: bytes | str) -> bool:
        try:
            return self._decode_type(frame).type not in _SERVER_TYPES
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False


def client_codec(subprotocol: str) -> ClientCodec:
    """Return the codec of a client, which decodes servers' messages."""
    return ClientCodec(subprotocol)


def _not_unicode(error: Exception, frame: bytes | str) -> bool:
    """Return whether a frame failed to parse because it has text that is not Unicode."""
    escaped = isinstance(frame, str) and _HALF.search(_PAIR.sub("", frame)) is not None
    return escaped or isinstance(error, UnicodeError)


def _without_content(error: Exception) -> str:
    """Return what is wrong with a message and where, without a quotation of the peer's bytes."""
    if not isinstance(error, msgspec.ValidationError):
        return "the frame is not a well-formed message"
    wrong = _WRONG.fullmatch(str(error))
    if wrong is None:  # other errors may quote the frame
        return "the message has an unknown type, field or value"
    what, place = wrong["what"].replace("`", ""), wrong["place"]
    for pattern, rule in RULES.items():
        if what.endswith(f"matching regex {pattern!r}"):
            what = f"Expected {rule}"
    what = what.replace("Expected", "expected").replace("Object missing required field", "there is no field")
    return f"{what}, in the field {place}" if place else what
