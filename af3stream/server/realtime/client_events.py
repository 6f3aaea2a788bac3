"""The events that clients of the Realtime API send."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from af3stream.protocol.messages import Duration, Id, Language, Speaker
from af3stream.server.openai_errors import ApiError

ItemId = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=100_000)]
Texts = Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=256)]
Languages = Annotated[tuple[Language, ...], Meta(max_length=32)]
Milliseconds = Annotated[int, Meta(ge=0, le=600_000)]
Tokens = Annotated[int, Meta(ge=1)] | Literal["inf"]
Metadata = Annotated[dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]


class Format(Struct, frozen=True, omit_defaults=True):
    """How audio is written; G.711 has 8,000 samples a second."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: Annotated[int, Meta(ge=8_000, le=48_000)] | None = None  # Hz, of PCM; None: 24,000


class Transcription(Struct, frozen=True, omit_defaults=True):
    """Settings of the transcription."""

    model: str | None = None
    language: Language | None = None
    languages: Languages | None = None
    keywords: Texts | None = None
    prompt: Text | None = None
    delay: str | None = None


class TurnDetection(Struct, frozen=True, omit_defaults=True):
    """When the server ends an item."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    prefix_padding_ms: Milliseconds | None = None
    silence_duration_ms: Annotated[int, Meta(ge=1, le=600_000)] | None = None
    idle_timeout_ms: Annotated[int, Meta(ge=1_000, le=600_000)] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class Input(Struct, frozen=True):
    """Audio from the client."""

    format: Format | UnsetType | None = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class Audio(Struct, frozen=True):
    """Audio of a session."""

    input: Input | UnsetType = UNSET


class Extension(Struct, frozen=True):
    """Settings beyond the API."""

    words: bool | UnsetType = UNSET
    speakers: bool | Speaker | UnsetType = UNSET


class Update(Struct, frozen=True):
    """Settings to change; those that are left out stay."""

    type: Literal["realtime", "transcription"] | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    audio: Audio | UnsetType = UNSET
    instructions: Text | UnsetType | None = UNSET
    max_output_tokens: Tokens | UnsetType | None = UNSET
    include: Texts | UnsetType | None = UNSET
    af3stream: Extension | UnsetType = UNSET


class Part(Struct, frozen=True):
    """A piece of an item."""

    type: str
    text: Text | None = None
    transcript: Text | None = None
    audio: str | None = None  # base64


class Item(Struct, frozen=True):
    """An item, or a reference to one."""

    type: str = "message"
    id: ItemId | None = None
    role: Literal["user", "assistant", "system"] | None = None
    content: Annotated[tuple[Part, ...], Meta(max_length=64)] = ()


class ResponseSettings(Struct, frozen=True):
    """Settings of one response."""

    instructions: Text | None = None
    input: Annotated[tuple[Item, ...], Meta(max_length=256)] | None = None
    conversation: Literal["auto", "none"] = "auto"
    max_output_tokens: Tokens | None = None
    metadata: Metadata | None = None


class ClientEvent(Struct, frozen=True, tag_field="type"):
    """Base of all events."""

    event_id: Annotated[str, Meta(max_length=512)] | None = None


class SessionUpdate(ClientEvent, frozen=True, kw_only=True, tag="session.update"):
    """Change settings."""

    session: Update


class Append(ClientEvent, frozen=True, kw_only=True, tag="input_audio_buffer.append"):
    """Audio."""

    audio: str  # base64


class Commit(ClientEvent, frozen=True, tag="input_audio_buffer.commit"):
    """End the item here."""


class Clear(ClientEvent, frozen=True, tag="input_audio_buffer.clear"):
    """Forget the item so far."""


class ClearOutput(ClientEvent, frozen=True, tag="output_audio_buffer.clear"):
    """Forget audio that is not played yet; there is none."""


class CreateItem(ClientEvent, frozen=True, kw_only=True, tag="conversation.item.create"):
    """Put an item into the conversation."""

    item: Item
    previous_item_id: ItemId | None = None


class DeleteItem(ClientEvent, frozen=True, kw_only=True, tag="conversation.item.delete"):
    """Take an item out."""

    item_id: ItemId


class RetrieveItem(ClientEvent, frozen=True, kw_only=True, tag="conversation.item.retrieve"):
    """Send an item to the client."""

    item_id: ItemId


class TruncateItem(ClientEvent, frozen=True, kw_only=True, tag="conversation.item.truncate"):
    """Shorten what was said to the user; there is no audio of it."""

    item_id: ItemId
    content_index: Annotated[int, Meta(ge=0)] = 0
    audio_end_ms: Annotated[int, Meta(ge=0)] = 0


class CreateResponse(ClientEvent, frozen=True, tag="response.create"):
    """Answer."""

    response: ResponseSettings = ResponseSettings()


class CancelResponse(ClientEvent, frozen=True, tag="response.cancel"):
    """Stop answering."""

    response_id: str | None = None


class CreateWatch(ClientEvent, frozen=True, kw_only=True, tag="af3stream.watch.create"):
    """A standing question: an extension."""

    id: Id
    text: Text
    every_s: Duration | None = None


class DeleteWatch(ClientEvent, frozen=True, kw_only=True, tag="af3stream.watch.delete"):
    """End a standing question: an extension."""

    id: Id


Event = (
    SessionUpdate
    | Append
    | Commit
    | Clear
    | ClearOutput
    | CreateItem
    | DeleteItem
    | RetrieveItem
    | TruncateItem
    | CreateResponse
    | CancelResponse
    | CreateWatch
    | DeleteWatch
)


class _Named(Struct):
    type: Any = None
    event_id: Any = None


_NAMED: Final = msgspec.json.Decoder(_Named)


class NoEvent(ApiError):
    """The frame is not a JSON object."""


class WrongEvent(ApiError):
    """The event is not valid.

    Attributes:
        event_id: the client's name for it.
    """

    def __init__(self, message: str, *, code: str, param: str | None = None, event_id: str | None = None) -> None:
        super().__init__(message, code=code, param=param)
        self.event_id = event_id


class EventDecoder:
    """Parses the events of a kind of session.

    Args:
        known: the union of their types.
    """

    def __init__(self, known: Any) -> None:
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(known)
        self._tags = ", ".join(sorted(str(kind.__struct_config__.tag) for kind in get_args(known)))

    def decode(self, frame: str) -> Any:
        """Parse one frame.

        Raises:
            NoEvent: if the frame is not a JSON object.
            WrongEvent: for an unknown type or an invalid field. The message does not repeat the input.
        """
        try:
            return self._decoder.decode(frame)
        except msgspec.ValidationError as error:
            raise _wrong(error, frame, self._tags) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise NoEvent("the frame is not a JSON object", code="invalid_json") from None


def _wrong(error: msgspec.ValidationError, frame: str, tags: str) -> ApiError:
    try:
        named = _NAMED.decode(frame)
    except (msgspec.DecodeError, RecursionError):
        return NoEvent("the frame is not a JSON object", code="invalid_json")
    said, _, place = str(error).replace("`", "").partition(" - at $.")
    if place == "type" or named.type is None:
        said, place = f"unknown event type; known: {tags}", "type"
    elif said.startswith("Invalid enum value"):
        said = "the field has no value that it can have"
    event_id = named.event_id if isinstance(named.event_id, str) else None
    return WrongEvent(said, code="invalid_value", param=place or None, event_id=event_id)
