"""Responses: a session's answers as the events of the Realtime API."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from af3stream.errors import Refusal
from af3stream.protocol import messages as m
from af3stream.server.openai_errors import SERVER, ApiError, api_error
from af3stream.server.realtime.client_events import ResponseSettings, Tokens
from af3stream.server.realtime.conversation import (
    Conversation,
    Wire,
    created_item,
    is_spoken,
    message,
    new_id,
)
from af3stream.server.realtime.transcripts import Emit
from af3stream.server.realtime.turns import Turns

MOST_RESPONSES: Final = 4  # at once
MOST_WINDOWS: Final = 1_000


@dataclass(eq=False, slots=True)
class Response:
    """One response.

    Attributes:
        question: the id of the item that it answers.
        waits: whether the words of that item are still to come.
        items: ids of what it answers.
        told: what the deltas made up; ``None`` before the first.
    """

    id: str
    item_id: str
    settings: ResponseSettings
    question: str | None = None
    waits: bool = False
    items: tuple[str, ...] = ()
    told: str | None = None
    reason: str = "client_cancelled"

    @property
    def in_conversation(self) -> bool:
        """Whether it belongs to the conversation."""
        return self.settings.conversation == "auto"


class Responses:
    """The responses of a conversation.

    Args:
        emit: sends an event.
        send: gives a message to the session; raises `Refusal`.
        max_chars: of a question.

    Attributes:
        turns: what is asked and answered.
        max_output_tokens: of the session.
    """

    def __init__(
        self, conversation: Conversation, emit: Emit, send: Callable[[m.ClientMessage], None], max_chars: int
    ) -> None:
        self.turns = Turns(conversation, max_chars)
        self.max_output_tokens: Tokens = "inf"
        self.conversation_id = new_id("conv")
        self._conversation = conversation
        self._emit = emit
        self._send = send
        self._open: dict[str, Response] = {}
        self._windows: deque[m.Window] = deque(maxlen=MOST_WINDOWS)

    @property
    def active(self) -> Response | None:
        """The response of the conversation that is in progress."""
        return next((response for response in self._open.values() if response.in_conversation), None)

    def create(self, settings: ResponseSettings, spoken: str | None = None) -> None:
        """Create a response.

        Args:
            spoken: the item that it answers; ``None``: the one that is next.

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
        if settings.input is None:
            question = self._conversation.find(spoken, "retrieve") if spoken else self.turns.question()
            if question:
                response.question = question["id"]
                response.waits = is_spoken(question) and question["content"][0]["transcript"] is None
        if not response.waits:
            self._ask(response)

    def cancel(self, response_id: str | None, reason: str = "client_cancelled") -> bool:
        """Stop a response, by default the conversation's; false if there is none."""
        response = self._open.get(response_id) if response_id else self.active
        if response is None:
            return False
        response.reason = reason
        if response.waits:
            self._done(response, "cancelled", None)
        else:
            self._send(m.Cancel(response.id))
        return True

    def transcribed(self, item_id: str) -> None:
        """Ask the responses that waited for a transcript."""
        for response in [*self._open.values()]:
            if response.waits and response.question == item_id:
                response.waits = False
                self._ask(response)

    def hear(self, said: m.ServerMessage) -> None:
        """Translate a message about a question."""
        match said:
            case m.Window():
                self._windows.append(said)
            case m.AnswerDelta(id=name, text=text) if response := self._open.get(name):
                self._piece(response, text)
            case m.Answer(id=name) if response := self._open.get(name):
                self._answer(response, said)
            case m.Error(ref=name) if name and (response := self._open.get(name)):
                self._failed(response, {"type": SERVER, "code": said.code, "message": said.message})

    def _ask(self, response: Response) -> None:
        most = response.settings.max_output_tokens or self.max_output_tokens
        try:
            asked = self.turns.asked(response.settings, response.question)
            response.items = asked.items
            self._send(m.Ask(response.id, asked.text, max_tokens=None if most == "inf" else most, after=asked.after))
        except (Refusal, ApiError) as error:
            self._failed(response, api_error(error).fields)

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
            self.turns.answered(response.id, (*response.items, response.item_id))
        status = {"stop": "completed", "length": "incomplete", "cancelled": "cancelled"}[answer.finish]
        if response.told is None and answer.finish != "cancelled":
            self._begin(response)
        self._done(response, status, answer)

    def _failed(self, response: Response, error: Wire) -> None:
        self._done(response, "failed", None, error)

    def _done(self, response: Response, status: str, answer: m.Answer | None, error: Wire | None = None) -> None:
        """Send the closing events of a response."""
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
        """Return the usage: audio frames in the prompt, and tokens of the answer."""
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
