"""Who asks too often is told when to go on; whoever is in no such hurry never notices."""

from __future__ import annotations

import pytest

from af3stream.config import QuestionsConfig
from af3stream.errors import QueryLimit
from af3stream.protocol import messages as m
from af3stream.session.rate_limiter import RateLimiter
from tests.session.conversation import Conversation


def test_ten_seconds_worth_may_come_at_once_and_then_as_many_as_pass() -> None:
    pace = RateLimiter(2.0)
    for _ in range(20):
        pace.spend("q", 100.0)
    with pytest.raises(QueryLimit) as refusal:
        pace.spend("q", 100.1)
    assert (refusal.value.ref, refusal.value.retry_after_ms) == ("q", 400)
    pace.spend("q", 100.5)
    for _ in range(20):
        pace.spend("q", 10_000.0)  # what was not used is not saved up
    with pytest.raises(QueryLimit):
        pace.spend("q", 10_000.0)


def test_who_is_slow_is_never_refused() -> None:
    pace = RateLimiter(0.05)
    for minute in range(100):
        pace.spend("q", 60.0 * minute)


@pytest.mark.parametrize(
    "kind", [lambda i: m.Ask(i, "What?"), m.Flush, m.Cancel, m.Unwatch, lambda i: m.Watch(i, "Well?")]
)
def test_every_kind_of_request_counts(kind: object) -> None:
    talk = Conversation(questions=QuestionsConfig(per_s=0.4, max_watches=9))
    assert callable(kind)
    for number in range(4):
        talk.tell(kind(f"r{number}"))
    with pytest.raises(QueryLimit):
        talk.tell(kind("r4"))
    talk.pass_time(2.5)
    talk.tell(kind("r4"))


def test_audio_does_not_count() -> None:
    talk = Conversation(questions=QuestionsConfig(per_s=0.1))
    for at in range(100):
        talk.tell(m.Audio(at, b"\0\0"))
    talk.tell(m.End(100))
    assert talk.of(m.Ended)
