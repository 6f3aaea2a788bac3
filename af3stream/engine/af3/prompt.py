"""The prompt around the audio: the checkpoint's chat template, cut where the audio and the question stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from af3stream.errors import ModelError

TRANSCRIBE: Final = "Transcribe the input speech."

_SYSTEM: Final = "SYSTEM"
_QUESTION: Final = "QUESTION"
_ANSWER: Final = "ANSWER"
_NEXT: Final = "FOLLOWING"
_FRAMINGS: Final = (
    "The spoken content of the audio is",
    "The transcription of the audio is",
    "The content of the input audio is",
)  # AudioFlamingo3Processor._strip_assistant_prefix_and_quotes


@dataclass(frozen=True, slots=True)
class Template:
    """What stands around the audio, the questions and the answers.

    Attributes:
        head: token ids of the system turn and the header of the user's turn.
        system: of another system turn, the token ids before and after its words, the latter up to the audio.
        tail: token ids from the end of the user's words to the start of the assistant's.
        between: token ids from the end of the assistant's words to the start of the user's next.
    """

    head: tuple[int, ...]
    system: tuple[tuple[int, ...], tuple[int, ...]]
    tail: tuple[int, ...]
    between: tuple[int, ...]


def read_template(processor: Any, system: str | None = None) -> Template:
    """Cut the processor's chat template at its audio, its questions and its answers.

    Args:
        system: the system turn; ``None``: the template's own.

    Raises:
        ModelError: if the template has no system turn, or does not put the audio right before the text, or the turns
            one after another.
    """
    head, sound, rest = _render(processor, system, _QUESTION).partition(processor.audio_token)
    before, question, tail = rest.partition(_QUESTION)
    if not (sound and question) or before:
        raise ModelError("the checkpoint's chat template does not put the audio right before the user's text")
    first = head + sound + question + tail + _ANSWER
    chat = _render(processor, system, _QUESTION, _ANSWER, _NEXT)
    between, following, end = chat.removeprefix(first).partition(_NEXT)
    if not (chat.startswith(first) and following) or end != tail:
        raise ModelError("the checkpoint's chat template does not put the turns of a chat one after another")

    opening, found, closing = _render(processor, _SYSTEM, _QUESTION).partition(_SYSTEM)
    closing, _, _ = closing.partition(processor.audio_token)
    if not found:
        raise ModelError("the checkpoint's chat template has no system turn")

    def encode(text: str) -> tuple[int, ...]:
        return tuple(processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    return Template(encode(head), (encode(opening), encode(closing)), encode(tail), encode(between))


def _render(processor: Any, system: str | None, *texts: str) -> str:
    """Return a chat of these texts, the user's and the assistant's in turn; audio stands before the first."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": [_said(text)]} for i, text in enumerate(texts)]
    turns[0]["content"] = [{"type": "audio", "path": "audio"}, _said(texts[0])]
    if system is not None:
        turns.insert(0, {"role": "system", "content": [_said(system)]})
    rendered: str = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return rendered


def _said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text; a control token that it spells is encoded as plain characters."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def strip_framing(text: str) -> str:
    """Return the words inside ``The spoken content of the audio is "…".``, and any other text trimmed."""
    stripped = text.strip()
    for framing in _FRAMINGS:
        if stripped.startswith(framing):
            stripped = stripped[len(framing) :].strip().removesuffix(".").strip()
            if len(stripped) >= 2 and stripped[0] == stripped[-1] and stripped[0] in "'\"":
                stripped = stripped[1:-1].strip()
            break
    return stripped


class Unframer:
    """`strip_framing` for a text that comes piece by piece. Words that were returned are never taken back."""

    def __init__(self) -> None:
        self._text = ""
        self._sent = ""

    def push(self, piece: str) -> str:
        """Take the next piece of a reply; return the words that are certain by now."""
        self._text += piece
        stripped = self._text.strip()
        if any(framing.startswith(stripped) for framing in _FRAMINGS):
            return ""  # may still become a framing, or is only a framing so far
        if any(stripped.startswith(framing) for framing in _FRAMINGS):
            return self._release(_inside(stripped))
        return self._release(stripped)

    def finish(self) -> str:
        """Return the remaining words, once the reply is complete."""
        words = strip_framing(self._text)
        if not words.startswith(self._sent):  # the reply ended inside the quotation, whose opening mark was left out
            words = words[1:].strip()
        return self._release(words)

    def _release(self, certain: str) -> str:
        new = certain[len(self._sent) :]
        self._sent += new
        return new


def _inside(framed: str) -> str:
    """Return the certain words of an incomplete framed reply: without a quote and a period that may close it."""
    framing = next(framing for framing in _FRAMINGS if framed.startswith(framing))
    words = framed[len(framing) :].strip()
    quoted = words[:1] in ("'", '"') and words[:1]
    words = words.rstrip(f".{quoted or ''} ") if words else words
    return (words[1:] if quoted else words).strip()


def detokenize(tokenizer: Any, tokens: Iterator[int]) -> Iterator[str]:
    """Return the text of tokens piece by piece. A token that ends inside a character gives "" until it is complete."""
    ids: list[int] = []
    sent = 0
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids, skip_special_tokens=True)
        ready = "" if text.endswith("�") else text[sent:]
        sent += len(ready)
        yield ready
    yield tokenizer.decode(ids, skip_special_tokens=True)[sent:]
