"""In no order of their steps do owners of a session lose what was acknowledged, or write one file."""

from __future__ import annotations

import pytest

from tests.journal.lease_model import Rules, enumerate_states


def test_every_later_owner_sees_what_was_acknowledged_and_no_two_write_one_file() -> None:
    outcome = enumerate_states(Rules())
    assert not outcome.broken, outcome.path
    assert outcome.states > 90_000


@pytest.mark.long
def test_the_same_with_more_records() -> None:
    outcome = enumerate_states(Rules(records=2))
    assert not outcome.broken, outcome.path


@pytest.mark.parametrize(
    ("rules", "broken"),
    [
        (Rules(checks=False), "everything_acknowledged_is_seen"),
        (Rules(syncs_first=False), "everything_acknowledged_is_seen"),
        (Rules(claims_first=False), "everything_acknowledged_is_seen"),
        (Rules(copies_last=False), "everything_acknowledged_is_seen"),
        (Rules(exclusive=False), "no_two_owners_write_one_file"),
    ],
    ids=["no-check", "check-before-sync", "read-before-claim", "last-file-not-copied", "lease-not-exclusive"],
)
def test_without_one_rule_the_model_finds_a_counterexample(rules: Rules, broken: str) -> None:
    outcome = enumerate_states(rules)
    assert outcome.broken == broken and outcome.path


def test_without_the_check_an_owner_acknowledges_what_the_next_one_has_not_read() -> None:
    path = enumerate_states(Rules(checks=False)).path
    assert path.index("owner 1 reads the files") < path.index("owner 0 acknowledges")
