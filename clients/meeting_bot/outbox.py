"""Events into the outbox, once for each action that wants them, under one key at every attempt."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from clients.meeting_bot import minutes
from clients.meeting_bot.delivery import Deliverer
from clients.meeting_bot.digest import link
from clients.meeting_bot.events import Event
from clients.meeting_bot.rules import Rule, RulesFile
from clients.meeting_bot.state import State


class Outbox:
    """Where events wait to be taken. What is posted within a transaction of the state is posted with it, or not."""

    def __init__(self, state: State, rules: RulesFile, deliverers: Mapping[str, Deliverer]) -> None:
        self._state, self._rules, self._deliverers = state, rules, deliverers

    def post(self, event: Event) -> None:
        """What a rule found."""
        names = minutes.named(self._state, self._rules)
        begin, end = round(event.begin, 3), round(event.end, 3)
        found = {
            "kind": event.kind,
            "begin": begin,
            "end": end,
            "link": link(begin, end),
            "text": event.text,
            "speakers": [names.get(speaker, speaker) for speaker in event.speakers],
            "keyword": event.keyword,
        }
        self._post(event.rule, found)

    def post_minutes(self, rule: Rule, folder: str, written: dict[str, Any]) -> None:
        """The minutes, which a rule asks for at the end."""
        self._post(rule, {"kind": "minutes", "folder": folder, "minutes": written})

    def _post(self, rule: Rule, found: dict[str, object]) -> None:
        key = str(uuid.uuid4())
        event = {"id": key, "meeting": self._rules.minutes.title, "created": now(), "rule": rule.name, **found}
        for action in rule.actions:
            self._state.post(action, key, event)
            self._deliverers[action].wake()


def now() -> str:
    """The time, as ISO 8601 has it, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
