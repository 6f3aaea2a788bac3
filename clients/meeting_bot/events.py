"""From what the service says to events: which rules it fires. No clock, no socket, no file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from clients.meeting_bot.rules import Rule, RulesFile
from clients.meeting_bot.state import Said

LOOK_OUT: Final = (
    'You are asked: "{}" Has it come up in what was heard? Begin with "yes" or "no"; after "yes", say in one sentence '
    "what was said about it."
)
YES: Final = re.compile(r"\W*(yes|yeah|ja|oui|sí|si)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell: which rule, seconds in the recording, the words, and who spoke."""

    rule: Rule
    kind: str
    begin: float
    end: float
    text: str
    speakers: tuple[str, ...] = ()
    keyword: str | None = None


class Rules:
    """The rules, as they look at what is heard.

    Args:
        told: the newest answer of each standing question, by rule; kept over a restart by the caller.
    """

    def __init__(self, rules: RulesFile, told: dict[str, str] | None = None) -> None:
        self.all = rules.rule
        self.told = told or {}
        self._keywords = [
            (rule, keyword, re.compile(rf"(?<!\w){re.escape(keyword)}(?!\w)", re.IGNORECASE))
            for rule in rules.rule
            for keyword in rule.keywords or ()
        ]

    @property
    def standing(self) -> dict[str, str]:
        """What to ask again and again: the question, by rule."""
        questions = {rule.name: LOOK_OUT.format(rule.watch) for rule in self.all if rule.watch}
        return questions | {rule.name: rule.question for rule in self.all if rule.question}

    @property
    def periodic(self) -> list[Rule]:
        """The rules of every so many minutes."""
        return [rule for rule in self.all if rule.every_minutes]

    def caption(self, said: Said) -> list[Event]:
        """A final caption: one event for each keyword in it."""
        return [
            Event(rule, "keyword", said.begin, said.end, said.text, said.speakers, keyword)
            for rule, keyword, pattern in self._keywords
            if pattern.search(said.text)
        ]

    def hit(self, name: str, text: str, begin: float, end: float) -> list[Event]:
        """A standing question's answer changed: always told of a ``question``, of a ``watch`` when it becomes yes."""
        before = self.told.get(name)
        self.told[name] = text
        rule = next(rule for rule in self.all if rule.name == name)
        if text == before or (rule.watch and (not YES.match(text) or YES.match(before or ""))):
            return []
        return [Event(rule, "watch" if rule.watch else "answer", begin, end, text)]

    def at_end(self) -> list[Rule]:
        """The rules that want the minutes."""
        return [rule for rule in self.all if rule.at_end]
