"""The items of a conversation, as the client sees them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final

from af3stream.server.openai_errors import ApiError
from af3stream.server.realtime import client_events as events
from af3stream.server.realtime.client_events import Item

MOST_ITEMS: Final = 1_000  # the oldest is dropped
MOST_CHARS: Final = 1_000_000  # of all items
ROOT: Final = "root"  # names the place before the first item
TEXT_PARTS: Final = ("input_text", "output_text", "text")

Wire = dict[str, Any]


class Conversation:
    """At most 1,000 items, in order."""

    def __init__(self) -> None:
        self._items: dict[str, Wire] = {}

    def __iter__(self) -> Iterator[Wire]:
        return iter([*self._items.values()])

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def add(self, item: Wire, after: str | None = None) -> str | None:
        """Insert an item, and return the id of the item before it.

        Args:
            after: the id of the item before; ``None``: at the end.

        Raises:
            ApiError: if the id is in use, or the item before does not exist.
        """
        if item["id"] in self._items:
            raise ApiError("the item's id is in use", code="item_create_duplicate_item_id", param="item.id")
        names = [*self._items]
        if after is None:
            place = len(names)
        elif after == ROOT:
            place = 0
        elif after in self._items:
            place = names.index(after) + 1
        else:
            raise ApiError(
                "there is no such item", code="item_create_invalid_previous_item_id", param="previous_item_id"
            )
        items = [*self._items.items()]
        items.insert(place, (item["id"], item))
        self._items = dict(items)
        while len(self._items) > MOST_ITEMS or (len(self._items) > 1 and self._chars > MOST_CHARS):
            del self._items[next(iter(self._items))]
        return names[place - 1] if place else None

    def find(self, item_id: str, doing: str) -> Wire:
        """Return an item.

        Args:
            doing: a verb for the error code.

        Raises:
            ApiError: if there is none.
        """
        if item_id not in self._items:
            raise ApiError("there is no such item", code=f"item_{doing}_invalid_item_id", param="item_id")
        return self._items[item_id]

    def delete(self, item_id: str) -> None:
        """Delete an item. Raises as `find` does."""
        self.find(item_id, "delete")
        del self._items[item_id]

    def replace(self, item: Wire) -> str | None:
        """Replace an item with a new state, and return the id of the item before it."""
        self._items[item["id"]] = item
        names = [*self._items]
        place = names.index(item["id"])
        return names[place - 1] if place else None

    @property
    def last_id(self) -> str | None:
        """The newest item's id."""
        return next(reversed(self._items), None)

    @property
    def _chars(self) -> int:
        return sum(len(text_of(item)) for item in self._items.values())


Edit = events.CreateItem | events.DeleteItem | events.RetrieveItem | events.TruncateItem


def edit(conversation: Conversation, event: Edit, emit: Callable[..., None]) -> str:
    """Apply an event to a conversation, send the answer, and return the id of the item.

    Raises:
        ApiError: if the event is refused.
    """
    match event:
        case events.CreateItem():
            item = created_item(event.item)
            previous = conversation.add(item, event.previous_item_id)
            emit("conversation.item.added", previous_item_id=previous, item=item)
            emit("conversation.item.done", previous_item_id=previous, item=item)
            return str(item["id"])
        case events.DeleteItem(item_id=name):
            conversation.delete(name)
            emit("conversation.item.deleted", item_id=name)
        case events.RetrieveItem(item_id=name):
            emit("conversation.item.retrieved", item=conversation.find(name, "retrieve"))
        case events.TruncateItem(item_id=name, content_index=index, audio_end_ms=end):
            conversation.find(name, "truncate")
            emit("conversation.item.truncated", item_id=name, content_index=index, audio_end_ms=end)
    return event.item_id


def new_id(kind: str) -> str:
    """Return a random id: ``item_...``, ``resp_...``, ``event_...``."""
    return f"{kind}_{secrets.token_hex(10)}"


def audio_item(item_id: str, transcript: str | None = None) -> Wire:
    """Make an item of the user's audio; the transcript comes later."""
    return message(item_id, "user", [{"type": "input_audio", "transcript": transcript}])


def message(item_id: str, role: str, content: list[Wire], status: str = "completed") -> Wire:
    """Make an item."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": role,
        "content": content,
    }


def created_item(item: Item) -> Wire:
    """Return the item that a client creates, without its audio.

    Raises:
        ApiError: for an item that is not taken.
    """
    if item.type != "message" or item.role is None:
        raise ApiError(f"only messages are taken: {_TAKEN}", code="invalid_value", param="item.type")
    content: list[Wire] = []
    for part in item.content:
        if part.type in TEXT_PARTS and part.text is not None:
            kind = "output_text" if item.role == "assistant" else "input_text"
            content.append({"type": kind, "text": part.text})
        elif part.type in ("input_audio", "output_audio", "audio"):
            kind = "output_audio" if item.role == "assistant" else "input_audio"
            content.append({"type": kind, "transcript": part.transcript})
        else:
            raise ApiError("a part is text or audio", code="invalid_value", param="item.content")
    if not content:
        raise ApiError("an item has at least one part", code="invalid_value", param="item.content")
    return message(item.id or new_id("item"), item.role, content)


_TAKEN: Final = "with a role, and parts of text or audio; this service calls no functions"


def text_of(item: Wire) -> str:
    """Return the text of an item, or the transcript of its audio."""
    return "\n".join(part.get("text") or part.get("transcript") or "" for part in item["content"]).strip()


def is_spoken(item: Wire) -> bool:
    """Return whether an item is audio of the user without text."""
    return item["role"] == "user" and all(part["type"] == "input_audio" for part in item["content"])
