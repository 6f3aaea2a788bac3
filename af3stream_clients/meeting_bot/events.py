"""Apply the rules to captions and answers, and create events. No clock, no socket, no file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from af3stream_clients.meeting_bot.grounding import best_sentence
from af3stream_clients.meeting_bot.rules import Rule, RulesFile
from af3stream_clients.meeting_bot.state import FinalCaption

TOPIC: Final = "Is {} talked about? Answer yes or no."
CONDITION: Final = "{} Answer yes or no."
QUOTE: Final = "Which sentence says so? Quote it."
YES: Final = re.compile(r"\W*(yes|yeah|ja|oui|sí|si)\b", re.IGNORECASE)


def says_yes(reply: str) -> bool:
    """Whether a reply begins with yes."""
    return YES.match(reply) is not None


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a rule: range in seconds of the recording, text and speakers."""

    rule: Rule
    kind: str
    begin: float
    end: float
    text: str
    speakers: tuple[str, ...] = ()
    keyword: str | None = None


class RuleEngine:
    """Evaluates the rules of one meeting.

    Args:
        last_sent: what each rule reported last; the caller keeps it over a restart.
    """

    def __init__(self, rules: RulesFile, last_sent: dict[str, str] | None = None) -> None:
        self.all = rules.rule
        self.last_sent = last_sent or {}
        self._keywords = [
            (rule, keyword, re.compile(rf"(?<!\w){re.escape(keyword)}(?!\w)", re.IGNORECASE))
            for rule in rules.rule
            for keyword in rule.keywords or ()
        ]

    @property
    def watched_questions(self) -> dict[str, str]:
        """Standing questions for the service, by name of the rule."""
        return {rule.name: rule.question for rule in self.all if rule.question}

    @property
    def ask_intervals(self) -> dict[str, float]:
        """Minutes between two questions, by name of the rule; 0 for a question about each passage."""
        return {rule.name: rule.every_minutes or 0.0 for rule in self.all if rule.every_minutes or rule.checks_passages}

    def named(self, name: str) -> Rule:
        """Return the rule of this name."""
        return next(rule for rule in self.all if rule.name == name)

    def condition(self, rule: Rule) -> str:
        """Return the yes-or-no question of a rule about each passage."""
        return TOPIC.format(rule.topic) if rule.topic else CONDITION.format(rule.watch)

    def caption(self, said: FinalCaption) -> list[Event]:
        """Return one event for each keyword in a final caption."""
        return [
            Event(rule, "keyword", said.begin, said.end, said.text, said.speakers, keyword)
            for rule, keyword, pattern in self._keywords
            if pattern.search(said.text)
        ]

    def passage_checked(self, rule: Rule, yes: bool, quote: str, captions: Sequence[FinalCaption]) -> list[Event]:
        """Return the event of a topic or watch after a passage was checked; a topic that continues gives none.

        Args:
            yes: whether the model confirmed the condition.
            quote: the sentence that the model quoted for it.
            captions: those of the passage.
        """
        end, _, held = self.last_sent.get(rule.name, "0 no").partition(" ")
        new = [said for said in captions if said.end > float(end)]
        found = best_sentence(rule.topic or quote, new) or best_sentence(quote, new) if yes else None
        item = found if found and not (rule.topic and held == "yes") else None
        self.last_sent[rule.name] = f"{item.caption.end if item else end} {'yes' if yes else 'no'}"
        kind = "topic" if rule.topic else "watch"
        return (
            [Event(rule, kind, item.caption.begin, item.caption.end, item.text, item.caption.speakers)] if item else []
        )

    def answer_changed(self, name: str, text: str, begin: float, end: float) -> list[Event]:
        """Return an event if the answer to a standing question changed."""
        before = self.last_sent.get(name)
        self.last_sent[name] = text
        return [] if text == before else [Event(self.named(name), "answer", begin, end, text)]

    def at_end(self) -> list[Rule]:
        """Return the rules that report the minutes."""
        return [rule for rule in self.all if rule.at_end]
