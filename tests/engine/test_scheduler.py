"""Whose turn it is: kinds by urgency, sessions by the device time they have had, tasks by age."""

from __future__ import annotations

from collections import Counter

import pytest

from af3stream.engine.contract import Hypothesis, Sound
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Job
from af3stream.engine.scheduler import Priority, Scheduler
from af3stream.engine.worker import priority_of

FINAL, ANSWER, CATCH_UP, INTERIM = Priority
SOUND = Sound(None, 1)


def turns(scheduler: Scheduler[str]) -> list[str]:
    """The work in the order of its turns, each done in one step that costs nothing."""
    order = []
    while task := scheduler.next():
        order.append(task.work)
        scheduler.finish(task)
    return order


@pytest.mark.parametrize(
    ("job", "priority"),
    [
        (CaptionJob(0, None, None, final=True, max_tokens=1), FINAL),  # type: ignore[arg-type]
        (CaptionJob(0, None, Hypothesis("x"), final=False, max_tokens=1), INTERIM),  # type: ignore[arg-type]
        (AnswerJob((), "What?", 1), ANSWER),
        (EncodeJob(0, SOUND), CATCH_UP),
        (ExtendJob((), rebuild=True), CATCH_UP),
    ],
)
def test_every_job_has_its_urgency(job: Job, priority: Priority) -> None:
    assert priority_of(job) == priority


def test_the_more_urgent_kind_goes_first_whatever_its_age() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for priority in (INTERIM, CATCH_UP, ANSWER, FINAL):
        scheduler.submit("a", priority, priority.name)
    assert turns(scheduler) == ["FINAL", "ANSWER", "CATCH_UP", "INTERIM"]


def test_within_a_session_the_oldest_task_goes_first() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for number in range(5):
        scheduler.submit("a", FINAL, str(number))
    assert turns(scheduler) == ["0", "1", "2", "3", "4"]


def test_within_a_kind_the_session_with_the_least_device_time_goes_first() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.submit("a", ANSWER, "a")
    scheduler.submit("b", ANSWER, "b")
    scheduler.charge("a", 1.0)
    assert turns(scheduler) == ["b", "a"]


def test_device_time_does_not_outweigh_urgency() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.submit("a", FINAL, "final")
    scheduler.submit("b", ANSWER, "answer")
    scheduler.charge("a", 100.0)
    assert turns(scheduler) == ["final", "answer"]


def test_a_task_stays_until_it_is_finished() -> None:
    scheduler: Scheduler[str] = Scheduler()
    task = scheduler.submit("a", ANSWER, "a")
    assert scheduler.next() is task and scheduler.next() is task and len(scheduler) == 1
    scheduler.finish(task)
    scheduler.finish(task)  # once more, as after a cancel, is no harm
    assert scheduler.next() is None and len(scheduler) == 0


def test_long_answers_share_the_device_by_time_not_by_steps() -> None:
    scheduler: Scheduler[str] = Scheduler()
    cost = {"cheap": 1.0, "dear": 3.0, "dearest": 6.0}
    for session in cost:
        scheduler.submit(session, ANSWER, session)
    steps: Counter[str] = Counter()
    for _ in range(900):
        task = scheduler.next()
        assert task
        steps[task.session] += 1
        scheduler.charge(task.session, cost[task.session])
    used = {session: steps[session] * cost[session] for session in cost}
    assert max(used.values()) - min(used.values()) <= max(cost.values())


def test_no_session_starves_beside_one_that_never_runs_dry() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for number in range(50):
        scheduler.submit("busy", ANSWER, f"busy{number}")
    scheduler.submit("quiet", ANSWER, "quiet")
    served = []
    for _ in range(3):
        task = scheduler.next()
        assert task
        served.append(task.work)
        scheduler.charge(task.session, 1.0)
        scheduler.finish(task)
    assert "quiet" in served[:2]


def test_a_newcomer_starts_level_and_cannot_claim_the_time_it_was_not_there() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.submit("old", ANSWER, "old")
    scheduler.charge("old", 100.0)
    scheduler.submit("new", ANSWER, "new")
    first = scheduler.next()
    assert first and first.work == "old"  # level, and older
    scheduler.charge("old", 0.1)
    second = scheduler.next()
    assert second and second.work == "new"
    scheduler.charge("new", 0.2)
    third = scheduler.next()
    assert third and third.work == "old"


def test_who_was_idle_starts_level_again() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.finish(scheduler.submit("idle", ANSWER, "idle"))
    scheduler.submit("busy", ANSWER, "busy")
    scheduler.charge("busy", 10.0)
    scheduler.submit("idle", ANSWER, "idle")
    scheduler.charge("idle", 0.1)
    task = scheduler.next()
    assert task and task.work == "busy"


def test_like_tasks_come_in_order_of_their_turn_and_no_more_than_fit() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for session in "abcde":
        scheduler.submit(session, CATCH_UP, f"encode {session}")
    scheduler.submit("a", CATCH_UP, "extend a")
    scheduler.charge("b", 1.0)
    task = scheduler.next()
    assert task
    together = scheduler.like(task, lambda work: work.startswith("encode"), most=4)
    assert [each.work for each in together] == ["encode a", "encode c", "encode d", "encode e"]


def test_a_forgotten_session_leaves_nothing() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.submit("a", ANSWER, "a1")
    scheduler.submit("b", ANSWER, "b1")
    scheduler.submit("a", FINAL, "a2")
    scheduler.charge("a", 50.0)
    assert [task.work for task in scheduler.forget("a")] == ["a1", "a2"]
    assert turns(scheduler) == ["b1"]
    scheduler.submit("b", ANSWER, "b2")
    scheduler.charge("b", 1.0)
    scheduler.submit("a", ANSWER, "a3")  # a new session of that name starts level
    assert turns(scheduler) == ["b2", "a3"]
