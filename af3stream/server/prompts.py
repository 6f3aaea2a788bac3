"""A chat's instructions and earlier messages, put before a question that a session is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

NAMES: Final = {"user": "User", "assistant": "Assistant"}


def with_chat(question: str, instructions: str, earlier: Sequence[tuple[str, str]], max_chars: int) -> str:
    """Return the question with the instructions and as many of the newest earlier messages as fit before it.

    Args:
        earlier: role and text of each message, oldest first.
        max_chars: of a question; instructions and question alone may be longer, and are refused then.
    """
    before = [instructions.strip()] if instructions.strip() else []
    room = max_chars - sum(len(text) + 1 for text in (*before, question))
    turns: list[str] = []
    for role, text in reversed(earlier):
        turn = f"{NAMES[role]}: {text.strip()}"
        room -= len(turn) + 1
        if room < 0:
            break
        turns.insert(0, turn)
    return "\n".join([*before, *turns, question])
