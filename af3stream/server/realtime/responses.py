"""Responses: a session's answers as the events of the Realtime API."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from af3stream.errors import Refusal
from af3stream.protocol import messages as m
from af3stream.server.openai_errors import SERVER, ApiError, api_error
from af3stream.server.prompts import with_chat
from af3stream.server.realtime.client_events import ResponseSettings, Tokens
from af3stream.server.realtime.conversation import (
    Conversation,
    Wire,
    created_item,
    is_spoken,
    message,
    new_id,
    text_of,
)
from af3stream.server.realtime.transcripts import Emit

MOST_RESPONSES: Final = 4  # at once
MOST_EXCHANGES: Final = 1_000  # that are remembered
MOST_WINDOWS: Final = 1_000
UNASKED: Final = "Reply to what was said last."  # where nothing is asked


@dataclass(eq=False, slots=True)
class Response:
    """One response.

    Attributes:
        spoken: the id of the item whose transcript is the question, until it is there.
        items: ids of the items that its question is made of.
        told: what the deltas made up; ``None`` before the first.
    """

    id: str
    item_id: str
    settings: ResponseSettings
    spoken: str | None = None
    items: tuple[str, ...] = ()
    told: str | None = None
    reason: str = "client_cancelled"

    @property
    def in_conversation(self) -> bool:
        """Whether the conversation goes on with it."""
        return self.settings.conversation == "auto"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a response asks the session."""

    text: str
    after: str | None = None
    items: tuple[str, ...] = ()


class Responses:
    """The responses of a conversation.

    Args:
        emit: sends an event.
        send: gives a message to the session; raises `Refusal`.
        max_chars: of a question.

    Attributes:
        instructions, max_output_tokens: of the session.
    """

    def __init__(
        self, conversation: Conversation, emit: Emit, send: Callable[[m.ClientMessage], None], max_chars: int
    ) -> None:
        self.instructions = ""
        self.max_output_tokens: Tokens = "inf"
        self.conversation_id = new_id("conv")
        self._conversation = conversation
        self._emit = emit
        self._send = send
        self._max_chars = max_chars
        self._open: dict[str, Response] = {}
        self._exchanges: deque[tuple[str, frozenset[str]]] = deque(maxlen=MOST_EXCHANGES)  # response, items
        self._windows: deque[m.Window] = deque(maxlen=MOST_WINDOWS)

    @property
    def active(self) -> Response | None:
        """The response that the conversation waits for."""
        return next((response for response in self._open.values() if response.in_conversation), None)

    def create(self, settings: ResponseSettings) -> None:
        """Begin a response.

        Raises:
            ApiError: if one is under way, or too many are.
        """
        if settings.conversation == "auto" and self.active:
            raise ApiError("the conversation has a response under way", code="conversation_already_has_active_response")
        if len(self._open) >= MOST_RESPONSES:
            raise ApiError(f"at most {MOST_RESPONSES} responses at once", code="rate_limit_exceeded")
        for item in settings.input or ():
            if item.type != "item_reference":
                created_item(item)
        response = Response(new_id("resp"), new_id("item"), settings)
        self._open[response.id] = response
        self._emit("response.created", response=self._wire(response, "in_progress", None, None))
        last = [item for item in self._conversation if item["role"] == "user"][-1:]
        if settings.input is None and last and self._awaited(last[0]):
            response.spoken = last[0]["id"]
            return
        self._ask(response)

    def cancel(self, response_id: str | None, reason: str = "client_cancelled") -> bool:
        """Stop a response, by default the conversation's; false if there is none."""
        response = self._open.get(response_id) if response_id else self.active
        if response is None:
            return False
        response.reason = reason
        if response.spoken:
            self._done(response, "cancelled", None)
        else:
            self._send(m.Cancel(response.id))
        return True

    def transcribed(self, item_id: str) -> None:
        """The words of a spoken item are there."""
        for response in [*self._open.values()]:
            if response.spoken == item_id:
                response.spoken = None
                self._ask(response)

    def hear(self, said: m.ServerMessage) -> None:
        """Take in what the session says of questions."""
        match said:
            case m.Window():
                self._windows.append(said)
            case m.AnswerDelta(id=name, text=text) if response := self._open.get(name):
                self._piece(response, text)
            case m.Answer(id=name) if response := self._open.get(name):
                self._answer(response, said)
            case m.Error(ref=name) if name and (response := self._open.get(name)):
                self._failed(response, {"type": SERVER, "code": said.code, "message": said.message})

    # ---- the question ------------------------------------------------------------------------------------------------

    def _ask(self, response: Response) -> None:
        most = response.settings.max_output_tokens or self.max_output_tokens
        try:
            asked = self._asked(response.settings)
            response.items = asked.items
            self._send(m.Ask(response.id, asked.text, max_tokens=None if most == "inf" else most, after=asked.after))
        except (Refusal, ApiError) as error:
            self._failed(response, api_error(error).fields)

    def _asked(self, settings: ResponseSettings) -> Asked:
        """What a response asks: the newest user's words, after what was answered and said before."""
        instructions = self.instructions if settings.instructions is None else settings.instructions
        after, items = None, self._inputs(settings)
        if settings.input is None:
            after, items = self._loose()
        instructions = "\n".join([instructions, *(text_of(item) for item in items if item["role"] == "system")])
        turns = [item for item in items if item["role"] != "system" and text_of(item)]
        asking = [item for item in turns if item["role"] == "user"][-1:]
        if not asking:
            asked = instructions.strip() or UNASKED
            return Asked(with_chat(asked, "", _texts(turns), self._max_chars), after, _ids(items))
        before = [item for item in turns[: turns.index(asking[0])] if not is_spoken(item)]
        text = with_chat(text_of(asking[0]), instructions, _texts(before), self._max_chars)
        return Asked(text, after, _ids(items))

    def _inputs(self, settings: ResponseSettings) -> list[Wire]:
        return [
            self._conversation.find(item.id or "", "retrieve") if item.type == "item_reference" else created_item(item)
            for item in settings.input or ()
        ]

    def _loose(self) -> tuple[str | None, list[Wire]]:
        """What was answered last, of what nothing is deleted since; and the items that no such answer is about."""
        after: str | None = None
        bound: set[str] = set()
        for name, items in self._exchanges:
            if not all(item in self._conversation for item in items):
                break
            after = name
            bound |= items
        return after, [item for item in self._conversation if item["id"] not in bound]

    def _awaited(self, item: Wire) -> bool:
        """Whether an item is a spoken question whose words are still to come."""
        answered = any(item["id"] in items for _, items in self._exchanges)
        return not answered and is_spoken(item) and item["content"][0]["transcript"] is None

    # ---- the answer --------------------------------------------------------------------------------------------------

    def _begin(self, response: Response) -> None:
        item = message(response.item_id, "assistant", [], "in_progress")
        place = {"response_id": response.id, "output_index": 0}
        self._emit("response.output_item.added", **place, item=item)
        if response.in_conversation:
            previous = self._conversation.add(item)
            self._emit("conversation.item.added", previous_item_id=previous, item=item)
        part = {"type": "text", "text": ""}
        self._emit("response.content_part.added", **place, item_id=response.item_id, content_index=0, part=part)
        response.told = ""

    def _piece(self, response: Response, text: str) -> None:
        if response.told is None:
            self._begin(response)
        response.told = (response.told or "") + text
        self._emit("response.output_text.delta", **_place(response), delta=text)

    def _answer(self, response: Response, answer: m.Answer) -> None:
        if response.in_conversation and answer.finish != "cancelled":
            self._exchanges.append((response.id, frozenset((*response.items, response.item_id))))
        status = {"stop": "completed", "length": "incomplete", "cancelled": "cancelled"}[answer.finish]
        if response.told is None and answer.finish != "cancelled":
            self._begin(response)
        self._done(response, status, answer)

    def _failed(self, response: Response, error: Wire) -> None:
        self._done(response, "failed", None, error)

    def _done(self, response: Response, status: str, answer: m.Answer | None, error: Wire | None = None) -> None:
        """Close whatever is open of a response."""
        del self._open[response.id]
        output: list[Wire] = []
        if response.told is not None:
            output = [self._close(response, response.told, "completed" if status == "completed" else "incomplete")]
        details: Wire | None = None
        match status:
            case "cancelled":
                details = {"type": status, "reason": response.reason}
            case "incomplete":
                details = {"type": status, "reason": "max_output_tokens"}
            case "failed":
                details = {"type": status, "error": error}
        usage = self._usage(answer)
        self._emit("response.done", response=self._wire(response, status, details, usage, output))

    def _close(self, response: Response, text: str, status: str) -> Wire:
        item = message(response.item_id, "assistant", [{"type": "output_text", "text": text}], status)
        self._emit("response.output_text.done", **_place(response), text=text)
        self._emit("response.content_part.done", **_place(response), part={"type": "text", "text": text})
        self._emit("response.output_item.done", response_id=response.id, output_index=0, item=item)
        if response.in_conversation and response.item_id in self._conversation:
            previous = self._conversation.replace(item)
            self._emit("conversation.item.done", previous_item_id=previous, item=item)
        return item

    def _usage(self, answer: m.Answer | None) -> Wire:
        """What is counted: projected audio frames in, and tokens out."""
        heard = sum(window.tokens for window in self._windows if answer and window.end > answer.start)
        written = answer.tokens if answer else 0
        return {
            "total_tokens": heard + written,
            "input_tokens": heard,
            "output_tokens": written,
            "input_token_details": {
                "text_tokens": 0,
                "audio_tokens": heard,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": written, "audio_tokens": 0},
        }

    def _wire(
        self,
        response: Response,
        status: str,
        details: Wire | None,
        usage: Wire | None,
        output: list[Wire] | None = None,
    ) -> Wire:
        most = response.settings.max_output_tokens or self.max_output_tokens
        return {
            "id": response.id,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": output or [],
            "conversation_id": self.conversation_id if response.in_conversation else None,
            "output_modalities": ["text"],
            "max_output_tokens": most,
            "usage": usage,
            "metadata": response.settings.metadata,
        }


def _place(response: Response) -> Wire:
    return {"response_id": response.id, "item_id": response.item_id, "output_index": 0, "content_index": 0}


def _texts(items: list[Wire]) -> list[tuple[str, str]]:
    return [(item["role"], text_of(item)) for item in items]


def _ids(items: list[Wire]) -> tuple[str, ...]:
    return tuple(item["id"] for item in items)
