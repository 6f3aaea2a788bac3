"""How long a client waits before it connects again."""

from __future__ import annotations

import pytest

from af3stream.client.backoff import STEADY_S, Backoff, delay_s


@pytest.mark.parametrize(
    ("attempt", "chance", "retry_after_s", "delay"),
    [
        (0, 1.0, 0, 0.2),
        (1, 1.0, 0, 0.4),
        (5, 1.0, 0, 6.4),
        (6, 1.0, 0, 10.0),
        (10_000, 1.0, 0, 10.0),
        (3, 0.5, 0, 0.8),
        (3, 0.0, 0, 0.0),
        (0, 0.5, 7, 7.1),
    ],
)
def test_the_wait_doubles_up_to_ten_seconds_and_any_part_of_it_may_be_drawn(attempt, chance, retry_after_s, delay):
    assert delay_s(attempt, chance, retry_after_s) == pytest.approx(delay)


def test_an_outage_is_given_up_where_the_next_attempt_would_come_too_late():
    backoff = Backoff(give_up_after_s=1.0)
    backoff.lost(100.0, "here")
    assert backoff.next_delay_s(100.0, 1.0) == 0.2
    assert backoff.next_delay_s(100.2, 1.0) == 0.4
    assert backoff.next_delay_s(100.6, 1.0) is None
    assert backoff.next_delay_s(100.6, 0.0, retry_after_s=0.3) == 0.3
    assert backoff.next_delay_s(100.6, 0.0, retry_after_s=0.4) is None


def test_zero_seconds_allow_no_second_attempt():
    backoff = Backoff(0.0)
    backoff.lost(5.0, ())
    assert backoff.next_delay_s(5.0, 0.0) is None


@pytest.mark.parametrize(
    ("lasted_s", "progress", "delay"),
    [(0.1, "here", 0.4), (0.1, "further", 0.2), (STEADY_S, "here", 0.2)],
)
def test_a_connection_that_lasted_or_brought_something_begins_the_waiting_anew(lasted_s, progress, delay):
    backoff = Backoff(300.0)
    backoff.opened(0.0)
    backoff.lost(1.0, "here")
    assert backoff.next_delay_s(1.0, 1.0) == 0.2
    backoff.opened(2.0)
    backoff.lost(2.0 + lasted_s, progress)
    assert backoff.next_delay_s(2.0 + lasted_s, 1.0) == delay
