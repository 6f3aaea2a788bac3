"""Add events to the outbox, once for each action of their rule, under one idempotency key."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from af3stream_clients.meeting_bot import minutes
from af3stream_clients.meeting_bot.delivery import Deliverer
from af3stream_clients.meeting_bot.digest import link
from af3stream_clients.meeting_bot.events import Event
from af3stream_clients.meeting_bot.rules import Rule, RulesFile
from af3stream_clients.meeting_bot.state import State


class Outbox:
    """Adds events to the state's outbox, within the current transaction of the state."""

    def __init__(self, state: State, rules: RulesFile, deliverers: Mapping[str, Deliverer]) -> None:
        self._state, self._rules, self._deliverers = state, rules, deliverers

    def post(self, event: Event) -> None:
        """Add an event of a rule."""
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
        """Add the minutes as an event of a rule with ``at_end``."""
        self._post(rule, {"kind": "minutes", "folder": folder, "minutes": written})

    def _post(self, rule: Rule, found: dict[str, object]) -> None:
        key = str(uuid.uuid4())
        event = {"id": key, "meeting": self._rules.minutes.title, "created": now(), "rule": rule.name, **found}
        for action in rule.actions:
            self._state.post(action, key, event)
            self._deliverers[action].wake()


def now() -> str:
    """Return the current time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
