"""The rules file: which events are reported, and where to. Each error names the file, the line and the key."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from af3stream.errors import ConfigError, quoted
from af3stream.protocol.messages import Language, Languages, Speaker, Vocabulary

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Minutes = Annotated[float, Meta(gt=0, le=1_440)]
Text = Annotated[str, Meta(min_length=1, max_length=1_500)]
Question = Annotated[str, Meta(max_length=1_500)]  # empty: not asked

SUMMARY: Final = "Summarise what was said."
DECISIONS: Final = "What was agreed?"
ACTIONS: Final = "What will they do?"
OPEN: Final = "What do they not know yet?"


class _Table(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the tables of the file."""


class Action(_Table, frozen=True):
    """Destination of events: exactly one of ``webhook``, ``command`` and ``append``.

    Attributes:
        webhook: ``http`` or ``https`` URL that events are posted to.
        secret_env: environment variable with the webhook's secret: ``whsec_`` and base64, or any text.
        command: program and arguments, run without a shell, with the event on standard input.
        append: file to which one line of JSON is appended for each event.
        timeout_s: time limit of one attempt.
        attempts: number of attempts before the event goes to the dead letters.
    """

    webhook: str | None = None
    secret_env: Text | None = None
    command: Annotated[list[Text], Meta(min_length=1)] | None = None
    append: Text | None = None
    timeout_s: Seconds = 10.0
    attempts: Annotated[int, Meta(ge=1, le=100)] = 10

    @property
    def secret(self) -> str | None:
        """The webhook's secret, or ``None``."""
        return os.environ.get(self.secret_env) if self.secret_env else None


class Rule(_Table, frozen=True):
    """When to report an event.

    Exactly one of ``topic``, ``watch``, ``question``, ``keywords``, ``every_minutes`` and ``at_end`` is set.

    Attributes:
        name: part of its events.
        actions: names of actions.
        topic: a topic such as "the budget"; reports the sentence in which it comes up.
        watch: a yes-or-no question such as "Has anybody promised something?"; reports each sentence that confirms it.
        question: a standing question; reports each change of its answer.
        keywords: words or phrases; reports each caption that contains one.
        every_minutes: interval in minutes of audio; reports the answer to ``ask`` about the interval, or its summary.
        ask: question of ``every_minutes``; empty for a summary of the section summaries.
        at_end: reports the minutes when the meeting is over.
    """

    name: Text
    actions: Annotated[list[Text], Meta(min_length=1)]
    topic: Text | None = None
    watch: Text | None = None
    question: Text | None = None
    keywords: Annotated[list[Text], Meta(min_length=1)] | None = None
    every_minutes: Minutes | None = None
    ask: Question = ""
    at_end: bool = False

    @property
    def checks_passages(self) -> bool:
        """Whether the rule asks a question about each passage."""
        return bool(self.topic or self.watch)


class MinutesOptions(_Table, frozen=True):
    """Options of the minutes. An empty question is not asked.

    Attributes:
        title: heading of the minutes.
        section_minutes: length of a section; it ends with a passage.
        summary, decisions, actions, open: questions about each section; the unsupported parts of a reply are dropped.
        questions: further questions, whose replies are kept unchanged.
    """

    title: Text = "Meeting"
    section_minutes: Minutes = 0.5
    summary: Question = SUMMARY
    decisions: Question = DECISIONS
    actions: Question = ACTIONS
    open: Question = OPEN
    questions: Annotated[list[Text], Meta(max_length=20)] = []

    @property
    def asked(self) -> list[str]:
        """All questions about a section, without empty ones."""
        own = (self.summary, self.decisions, self.actions, self.open)
        return [question for question in (*own, *self.questions) if question]


class CaptionOptions(_Table, frozen=True):
    """What the service is asked to caption.

    Attributes:
        language: of the speech, a code or ``auto``; ``None`` for the service's own choice.
        languages: codes that may occur; empty for all that the service knows.
        vocabulary: names and terms that are likely to be said.
        speakers: whether the service tells voices apart, for captions whose participant the source does not name; a
            number for so many people at most.
    """

    language: Language | None = None
    languages: Languages = ()
    vocabulary: Vocabulary = ()
    speakers: bool | Speaker = False


class RulesFile(_Table, frozen=True):
    """The whole file. ``speakers`` maps ids of participants, or ``Speaker 1``, to names."""

    action: dict[str, Action] = {}
    rule: list[Rule] = []
    minutes: MinutesOptions = MinutesOptions()
    captions: CaptionOptions = CaptionOptions()
    speakers: dict[str, Text] = {}


def load_rules(path: Path) -> RulesFile:
    """Read a rules file.

    Raises:
        ConfigError: if the file cannot be read or is invalid, with the line and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    try:
        rules = msgspec.convert(tables, RulesFile)
    except msgspec.ValidationError as error:
        raise _with_line(path, text, _with_action_name(str(error), tables)) from None
    for key, problem in _problems(rules):
        raise ConfigError(f"{path}, line {_line(text, key)}, {_format_key(key)}: {problem}")
    return rules


Key = tuple[str | int, ...]
TABLES: Final = {"action": Action, "rule": Rule, "minutes": MinutesOptions, "captions": CaptionOptions}


def _problems(rules: RulesFile) -> Iterator[tuple[Key, str]]:
    """Yield the problems that the types do not express: the key, and what is wrong."""
    for name, action in rules.action.items():
        if sum(kind is not None for kind in (action.webhook, action.command, action.append)) != 1:
            yield ("action", name), "an action has exactly one of webhook, command and append"
        if action.webhook is not None and not action.webhook.startswith(("http://", "https://")):
            yield ("action", name, "webhook"), "a webhook's address begins with http:// or https://"
        if action.secret_env and not action.webhook:
            yield ("action", name, "secret_env"), "only a webhook has a secret"
        if action.secret_env and not action.secret:
            yield ("action", name, "secret_env"), f"the environment has no {action.secret_env}"
    names: set[str] = set()
    for i, rule in enumerate(rules.rule):
        kinds = (rule.topic, rule.watch, rule.question, rule.keywords, rule.every_minutes, rule.at_end or None)
        if sum(kind is not None for kind in kinds) != 1:
            expected = "topic, watch, question, keywords, every_minutes and at_end"
            yield ("rule", i), f"a rule has exactly one of {expected}"
        if rule.name in names:
            yield ("rule", i, "name"), f"{quoted(rule.name)} is the name of another rule, too"
        names.add(rule.name)
        for name in rule.actions:
            if name not in rules.action:
                yield ("rule", i, "actions"), f"there is no action {quoted(name)}{_nearest(name, list(rules.action))}"


def _with_action_name(message: str, tables: dict[str, Any]) -> str:
    """Insert the name of the action, which msgspec leaves out as ``$.action[...]``."""
    for name, table in tables["action"].items() if "`$.action[...]" in message else ():
        try:
            msgspec.convert(table, Action)
        except msgspec.ValidationError:
            return message.replace("[...]", f".{name}", 1)
    return message


def _with_line(path: Path, text: str, message: str) -> ConfigError:
    """Convert msgspec's "problem - at `$.rule[0].name`" to an error with the line and the key."""
    problem, _, where = message.partition(" - at `$")
    parts = re.findall(r"\[\d+\]|[^.\[\]`]+", where)
    key: Key = tuple(int(part[1:-1]) if part.startswith("[") else part for part in parts)
    if unknown := re.search(r"unknown field `(.+?)`", problem):
        table = TABLES.get(str(key[0]) if key else "", RulesFile)
        problem = f"there is no such key{_nearest(unknown[1], list(table.__struct_fields__))}"
        key = (*key, unknown[1])
    problem = re.sub(r"^Object missing required field `(.+)`$", r"the key \1 is missing", problem)
    return ConfigError(f"{path}, line {_line(text, key)}, {_format_key(key)}: {problem}")


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f", is {quoted(close[0])} meant?" if close else ""


def _format_key(key: Key) -> str:
    shown = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in key)
    return shown.removeprefix(".") or "the file"


def _line(text: str, key: Key) -> int:
    """Return the line number of a key, or of its table if the key is not in the file."""
    lines = text.splitlines()
    name, rest = (str(key[0]), key[1:]) if key else ("", ())
    bare = r"[\"']?{}[\"']?"
    header = rf"\s*\[{{1,2}}\s*{bare.format(re.escape(name))}\s*(\..*)?\]"
    if rest and isinstance(rest[0], str) and name in ("action",):
        header = rf"\s*\[\s*{bare.format(name)}\s*\.\s*{bare.format(re.escape(rest[0]))}\s*\]"
        rest = rest[1:]
    tables = [i for i, line in enumerate(lines) if re.match(header, line)]
    nth = rest[0] if rest and isinstance(rest[0], int) else 0
    begin = tables[nth] if nth < len(tables) else 0
    leaf = next((part for part in reversed(key) if isinstance(part, str)), "")
    for i in range(begin, len(lines)):
        if i > begin and tables and re.match(r"\s*\[", lines[i]):
            break
        if re.match(rf"\s*{bare.format(re.escape(leaf))}\s*=", lines[i]):
            return i + 1
    return begin + 1
