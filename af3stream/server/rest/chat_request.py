"""The body of a chat request: its text, and its audio as files on disk."""

from __future__ import annotations

import binascii
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from af3stream.server.openai_errors import ApiError

QUOTE: Final = ord('"')
BASE64_BLOCK: Final = 1 << 18  # characters decoded at once; a multiple of 4


class _InputAudio(msgspec.Struct):
    data: msgspec.Raw  # base64 in a JSON string
    format: str = ""


class _AudioPart(msgspec.Struct, tag="input_audio"):
    input_audio: _InputAudio


class _TextPart(msgspec.Struct, tag="text"):
    text: str


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_TextPart | _AudioPart]

    @property
    def text(self) -> str:
        """The text of the message."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, _TextPart))


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _ResponseFormat(msgspec.Struct):
    type: str = "text"


class _Body(msgspec.Struct):
    messages: list[_Message]
    model: str = ""
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    logprobs: bool | None = None
    response_format: _ResponseFormat | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A question about audio.

    Attributes:
        earlier: role and text of each message before the question, oldest first.
        audio: files, in the order of the messages.
        max_tokens: of the answer; ``None``: as configured.
    """

    model: str
    question: str
    instructions: str
    earlier: list[tuple[str, str]]
    audio: list[Path]
    max_tokens: int | None
    stream: bool
    include_usage: bool


def read_chat(body: Path, folder: Path) -> ChatRequest:
    """Parse a body from a file, and write its audio to files in a folder.

    Raises:
        ApiError: for a body that is not valid, or asks for something that is not supported.
    """
    with body.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # nothing can be mapped of an empty file
            raise ApiError("the body is empty", code="invalid_json") from None
        return _read(mapped, folder)  # it is unmapped when nothing refers to it any more


def _read(mapped: mmap.mmap, folder: Path) -> ChatRequest:
    try:
        chat = msgspec.json.decode(mapped, type=_Body)
    except msgspec.ValidationError as error:
        said, _, place = str(error).replace("`", "").partition(" - at $.")
        raise ApiError(said, param=place or None, code="invalid_value") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ApiError("the body is not JSON", code="invalid_json") from None
    if chat.n not in (None, 1):
        raise ApiError("one answer is given", param="n", code="unsupported_value")
    if chat.logprobs:
        raise ApiError("answers have no logprobs", param="logprobs", code="unsupported_value")
    if chat.response_format and chat.response_format.type != "text":
        raise ApiError("answers are plain text", param="response_format", code="unsupported_value")
    spoken = [message for message in chat.messages if message.role in ("user", "assistant")]
    texts: list[tuple[str, str]] = [(message.role, message.text) for message in spoken if message.text.strip()]
    if not texts or texts[-1][0] != "user":
        raise ApiError("the last message with words must be a user's question", param="messages", code="no_question")
    names = count()
    audio = [_decoded(part, folder / str(next(names)), place) for place, part in _audio_parts(chat)]
    if not audio:
        raise ApiError("there is no audio: add an input_audio part", param="messages", code="no_audio")
    max_tokens = chat.max_completion_tokens or chat.max_tokens
    if max_tokens is not None and max_tokens < 1:
        raise ApiError("at least one token is needed", param="max_completion_tokens", code="invalid_value")
    return ChatRequest(
        model=chat.model,
        question=texts[-1][1],
        instructions="\n".join(message.text for message in chat.messages if message.role in ("system", "developer")),
        earlier=texts[:-1],
        audio=audio,
        max_tokens=max_tokens,
        stream=chat.stream,
        include_usage=bool(chat.stream_options and chat.stream_options.include_usage),
    )


def _audio_parts(chat: _Body) -> Iterator[tuple[str, _AudioPart]]:
    for i, message in enumerate(chat.messages):
        for j, part in enumerate(message.content if isinstance(message.content, list) else ()):
            if isinstance(part, _AudioPart):
                yield f"messages[{i}].content[{j}].input_audio.data", part


def _decoded(part: _AudioPart, path: Path, place: str) -> Path:
    """Write a part's audio to a file, a piece at a time."""
    spelled: Any = memoryview(part.input_audio.data)
    try:
        if spelled[0] != QUOTE:
            raise binascii.Error
        with path.open("wb") as file:
            waiting = b""
            for at in range(1, len(spelled) - 1, BASE64_BLOCK):  # between the quotation marks
                waiting = (waiting + bytes(spelled[at : min(at + BASE64_BLOCK, len(spelled) - 1)])).replace(
                    rb"\/", b"/"
                )
                whole = len(waiting.rstrip(b"\\")) // 4 * 4
                file.write(binascii.a2b_base64(waiting[:whole], strict_mode=True))
                waiting = waiting[whole:]
            file.write(binascii.a2b_base64(waiting, strict_mode=True))
    except binascii.Error:
        raise ApiError("the audio is not base64", param=place, code="invalid_value") from None
    return path
