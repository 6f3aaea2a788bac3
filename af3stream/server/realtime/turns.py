"""Composition of questions: the question of a response, and the conversation before it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from af3stream.server.prompts import with_chat
from af3stream.server.realtime.client_events import ResponseSettings
from af3stream.server.realtime.conversation import Conversation, Wire, created_item, is_spoken, text_of

MOST_EXCHANGES: Final = 1_000  # that are remembered
UNASKED: Final = "Reply to what was said last."  # where nothing is asked


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to the session.

    Attributes:
        after: the response that it follows up.
        items: ids of what it answers.
    """

    text: str
    after: str | None = None
    items: tuple[str, ...] = ()


class Turns:
    """The exchanges of a conversation, and its items that are in none: loose ones.

    Args:
        max_chars: of a question.

    Attributes:
        instructions: of the session, which every prompt begins with.
    """

    def __init__(self, conversation: Conversation, max_chars: int) -> None:
        self.instructions = ""
        self._conversation = conversation
        self._max_chars = max_chars
        self._exchanges: deque[tuple[str, frozenset[str]]] = deque(maxlen=MOST_EXCHANGES)  # response, items

    def answered(self, response_id: str, items: tuple[str, ...]) -> None:
        """Record an exchange, including its answer. The session keeps it as a turn."""
        self._exchanges.append((response_id, frozenset(items)))

    def question(self) -> Wire | None:
        """Return the loose item that a response is to answer, if there is one.

        It is the newest written one that nobody answered, else the newest that was spoken: people write questions about
        what they let the service hear.
        """
        _, items = self._loose()
        turns = [item for item in items if item["role"] != "system" and not is_spoken(item)]
        if turns and turns[-1]["role"] == "user":
            return turns[-1]
        spoken = [item for item in items if is_spoken(item)]
        return spoken[-1] if spoken else None

    def asked(self, settings: ResponseSettings, question_id: str | None) -> Asked:
        """Return what a response asks.

        Args:
            question_id: the item that it answers.
        """
        if settings.input is not None:
            after, items = None, self._inputs(settings)
            users = [item for item in items if item["role"] == "user"]
            question = users[-1] if users else None
        else:
            after, items = self._loose()
            question = next((item for item in items if item["id"] == question_id), None)
        own = (settings.instructions or "").removeprefix(self.instructions)
        instructions = "\n".join([own, *(text_of(item) for item in items if item["role"] == "system")])
        before = items[: items.index(question)] if question else items
        turns = [
            (item["role"], text_of(item))
            for item in before
            if item["role"] != "system" and not is_spoken(item) and text_of(item)
        ]
        asked = text_of(question) if question else ""
        if not asked:
            asked, instructions = instructions.strip() or UNASKED, ""
        ids = tuple(item["id"] for item in items)
        return Asked(with_chat(asked, instructions, turns, self._max_chars), after, ids)

    def _inputs(self, settings: ResponseSettings) -> list[Wire]:
        return [
            self._conversation.find(item.id or "", "retrieve") if item.type == "item_reference" else created_item(item)
            for item in settings.input or ()
        ]

    def _loose(self) -> tuple[str | None, list[Wire]]:
        """Return the last exchange with no deleted item before it, and the items in no such exchange."""
        after: str | None = None
        bound: set[str] = set()
        for name, items in self._exchanges:
            if not all(item in self._conversation for item in items):
                break
            after = name
            bound |= items
        return after, [item for item in self._conversation if item["id"] not in bound]
