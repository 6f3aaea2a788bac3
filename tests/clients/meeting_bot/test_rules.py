"""The rules file, its errors with line and key, and the events of the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from af3stream.errors import ConfigError
from af3stream_clients.meeting_bot.events import RuleEngine
from af3stream_clients.meeting_bot.rules import load_rules
from af3stream_clients.meeting_bot.state import FinalCaption

GOOD = """\
[minutes]
title = "Weekly"

[action.log]
append = "events.jsonl"

[[rule]]
name = "budget"
watch = "Has the budget been cut?"
actions = ["log"]

[[rule]]
name = "names"
keywords = ["Ada", "C++"]
actions = ["log"]
"""


def rules_of(tmp_path: Path, text: str) -> object:
    (tmp_path / "meeting.toml").write_text(text)
    return load_rules(tmp_path / "meeting.toml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("watch =", "wacht =", "line 9, rule[1].wacht: there is no such key, is 'watch' meant?"),
        ('["Ada", "C++"]', "7", "line 14, rule[2].keywords: Expected `array | null`, got `int`"),
        ('name = "names"', 'name = "budget"', "line 13, rule[2].name: 'budget' is the name of another rule, too"),
        ('append = "events.jsonl"', "timeout_s = 3", "line 4, action.log: an action has exactly one of"),
        ("append =", "timeout_s = -3\nappend =", "line 5, action.log.timeout_s: Expected `float` > 0.0"),
        ("append =", "apend =", "line 5, action.log.apend: there is no such key, is 'append' meant?"),
        (
            '["Ada", "C++"]\nactions = ["log"]',
            '["A"]\nactions = ["lag"]',
            "line 15, rule[2].actions: there is no action 'lag', is 'log' meant?",
        ),
        (
            "[action.log]",
            '[captions]\nlanguag = "es"\n[action.log]',
            "line 5, captions.languag: there is no such key, is 'language' meant?",
        ),
        ("[action.log]", "[captions]\nspeakers = 0\n[action.log]", "line 5, captions.speakers: Expected `int` >= 1"),
        ('title = "Weekly"', "title = Weekly", "is not TOML: Invalid value (at line 2, column 9)"),
        (
            'append = "events.jsonl"',
            'webhook = "example.org"',
            "line 5, action.log.webhook: a webhook's address begins with http:// or https://",
        ),
        (
            'append = "events.jsonl"',
            'webhook = "https://x"\nsecret_env = "NOT_SET_HERE"',
            "line 6, action.log.secret_env: the environment has no NOT_SET_HERE",
        ),
    ],
)
def test_error_names_line_and_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        rules_of(tmp_path, GOOD.replace(old, new))
    assert says in str(caught.value)
    assert str(tmp_path / "meeting.toml") in str(caught.value)


def test_keyword_matches_whole_words_in_any_case(tmp_path: Path) -> None:
    rules = RuleEngine(rules_of(tmp_path, GOOD))
    assert [event.keyword for event in rules.caption(FinalCaption(0, 1, "So ada writes C++, and Adam does not."))] == [
        "Ada",
        "C++",
    ]
    assert rules.caption(FinalCaption(0, 1, "Adam writes C")) == []


TOPIC = GOOD.replace('watch = "Has the budget been cut?"', 'topic = "the budget"')
SAID = [
    FinalCaption(float(at), at + 0.5, text)
    for at, text in enumerate(["Hello.", "The budget is cut.", "The budget is small."])
]


def check_passage(rules: RuleEngine, yes: bool, quote: str, *captions: FinalCaption) -> list[str]:
    return [event.text for event in rules.passage_checked(rules.named("budget"), yes, quote, captions)]


def test_topic_is_reported_when_it_comes_up_and_not_while_it_continues(tmp_path: Path) -> None:
    rules = RuleEngine(rules_of(tmp_path, TOPIC))
    assert rules.condition(rules.named("budget")) == "Is the budget talked about? Answer yes or no."
    assert check_passage(rules, False, "", SAID[0]) == []
    assert check_passage(rules, True, "", *SAID[:2]) == ["The budget is cut."]
    again = RuleEngine(rules_of(tmp_path, TOPIC), dict(rules.last_sent))
    assert check_passage(again, True, "", SAID[2]) == []
    assert check_passage(again, False, "", SAID[0]) == []
    assert check_passage(again, True, "", SAID[2]) == ["The budget is small."]


def test_watch_reports_each_confirming_sentence_once(tmp_path: Path) -> None:
    rules = RuleEngine(rules_of(tmp_path, GOOD))
    assert rules.condition(rules.named("budget")) == "Has the budget been cut? Answer yes or no."
    assert check_passage(rules, True, "The budget was cut.", *SAID[:2]) == ["The budget is cut."]
    assert check_passage(rules, True, "The budget was cut.", *SAID[:2]) == []
    assert check_passage(rules, True, "A small budget.", SAID[2]) == ["The budget is small."]


def test_sentence_without_a_caption_is_not_reported(tmp_path: Path) -> None:
    assert check_passage(RuleEngine(rules_of(tmp_path, GOOD)), True, "The weather is fine.", *SAID) == []
