"""Whose turn it is: kinds by urgency, sessions by the device time they have had, tasks by age."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from af3stream.engine.captioning import Hypothesis
from af3stream.engine.contract import AudioSegment
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Job, ReviseJob
from af3stream.engine.request import priority_of
from af3stream.engine.scheduler import BACKGROUND_SHARE, INTERIM_SHARE, SLICE_S, Priority, Scheduler, Task

FINAL, ANSWER, LATE_FINAL, CATCH_UP, INTERIM = Priority
SOUND = AudioSegment(0, 640, 1)


def turns(scheduler: Scheduler[str]) -> list[str]:
    """The work in the order of its turns, each done in one step that costs nothing."""
    order = []
    while task := scheduler.next():
        order.append(task.work)
        scheduler.finish(task)
    return order


def spend(scheduler: Scheduler[str], session: str, seconds: float, kind: Priority = ANSWER) -> None:
    """Account device time to a session."""
    scheduler.charge([Task(session, kind, "")], seconds)


@pytest.mark.parametrize(
    ("job", "priority"),
    [
        (CaptionJob(0, None, None, final=True, max_tokens=1), FINAL),  # type: ignore[arg-type]
        (CaptionJob(0, None, None, final=True, max_tokens=1, late=True), LATE_FINAL),  # type: ignore[arg-type]
        (CaptionJob(0, None, Hypothesis("x"), final=False, max_tokens=1), INTERIM),  # type: ignore[arg-type]
        (CaptionJob(0, None, None, final=False, max_tokens=1, urgent=True), ANSWER),  # type: ignore[arg-type]
        (AnswerJob((), "What?", 1), ANSWER),
        (EncodeJob(0, SOUND, np.zeros(640, np.float32)), CATCH_UP),
        (ExtendJob((), rebuild=True), CATCH_UP),
        (ExtendJob((), rebuild=False, captions_only=True), ANSWER),
        (ReviseJob(0, np.zeros(9, np.float32), 9), ANSWER),
        (ReviseJob(0, np.zeros(9, np.float32), 9, late=True), CATCH_UP),
    ],
)
def test_every_job_has_its_urgency(job: Job, priority: Priority) -> None:
    assert priority_of(job) == priority


def test_the_more_urgent_kind_goes_first_whatever_its_age() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for priority in (INTERIM, CATCH_UP, LATE_FINAL, ANSWER, FINAL):
        scheduler.submit("a", priority, priority.name)
    assert turns(scheduler) == ["FINAL", "ANSWER", "LATE_FINAL", "CATCH_UP", "INTERIM"]


def test_within_a_session_the_oldest_task_goes_first() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for number in range(5):
        scheduler.submit("a", FINAL, str(number))
    assert turns(scheduler) == ["0", "1", "2", "3", "4"]


def test_within_a_kind_the_session_with_the_least_device_time_goes_first() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.submit("a", ANSWER, "a")
    scheduler.submit("b", ANSWER, "b")
    spend(scheduler, "a", 1.0)
    assert turns(scheduler) == ["b", "a"]


def test_device_time_does_not_outweigh_urgency() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.submit("a", FINAL, "final")
    scheduler.submit("b", ANSWER, "answer")
    spend(scheduler, "a", 100.0)
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
        spend(scheduler, task.session, cost[task.session])
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
        spend(scheduler, task.session, 1.0)
        scheduler.finish(task)
    assert "quiet" in served[:2]


def test_a_newcomer_starts_level_and_cannot_claim_the_time_it_was_not_there() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.submit("old", ANSWER, "old")
    spend(scheduler, "old", 100.0)
    scheduler.submit("new", ANSWER, "new")
    first = scheduler.next()
    assert first and first.work == "old"  # level, and older
    spend(scheduler, "old", 0.1)
    second = scheduler.next()
    assert second and second.work == "new"
    spend(scheduler, "new", 0.2)
    third = scheduler.next()
    assert third and third.work == "old"


def test_who_was_idle_starts_level_again() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.finish(scheduler.submit("idle", ANSWER, "idle"))
    scheduler.submit("busy", ANSWER, "busy")
    spend(scheduler, "busy", 10.0)
    scheduler.submit("idle", ANSWER, "idle")
    spend(scheduler, "idle", 0.1)
    task = scheduler.next()
    assert task and task.work == "busy"


def test_who_asks_much_waits_no_longer_for_captions() -> None:
    scheduler: Scheduler[str] = Scheduler()
    spend(scheduler, "curious", 100.0, ANSWER)
    scheduler.submit("curious", FINAL, "curious")
    scheduler.submit("quiet", FINAL, "quiet")
    assert turns(scheduler) == ["curious", "quiet"]


def test_sessions_that_keep_up_are_served_in_the_order_they_come_whatever_they_had_before() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for session, seconds in (("talkative", 3.0), ("terse", 0.1)):
        scheduler.submit(session, FINAL, session)
        assert turns(scheduler) == [session]
        spend(scheduler, session, seconds, FINAL)
    for session in ("talkative", "terse", "new"):
        scheduler.submit(session, FINAL, session)
    assert turns(scheduler) == ["talkative", "terse", "new"]


def test_like_tasks_come_in_order_of_their_turn_and_no_more_than_fit() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for session in "abcde":
        scheduler.submit(session, CATCH_UP, f"encode {session}")
    scheduler.submit("a", CATCH_UP, "extend a")
    spend(scheduler, "b", 1.0, CATCH_UP)
    task = scheduler.next()
    assert task
    together = scheduler.like(task, lambda work: work.startswith("encode"), most=4)
    assert [each.work for each in together] == ["encode a", "encode c", "encode d", "encode e"]


def test_a_detached_session_is_served_when_no_other_has_anything_to_do() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.detach("gone")
    for priority in Priority:
        scheduler.submit("gone", priority, f"gone {priority.name}")
    for priority in (INTERIM, CATCH_UP):
        scheduler.submit("there", priority, f"there {priority.name}")
    assert turns(scheduler)[:3] == ["there CATCH_UP", "there INTERIM", "gone FINAL"]


def test_a_detached_session_joins_no_other_ones_step() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.detach("gone")
    for session in ("gone", "a", "b"):
        scheduler.submit(session, ANSWER, session)
    task = scheduler.next()
    assert task
    assert [each.work for each in scheduler.like(task, lambda _: True, most=8)] == ["a", "b"]


def test_work_for_a_detached_session_is_done_where_all_others_wait_for_memory() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.detach("gone")
    scheduler.submit("there", ANSWER, "waits")
    scheduler.submit("gone", ANSWER, "has memory")
    task = scheduler.next(lambda task: task.work == "has memory")
    assert task and task.work == "has memory"


def test_a_session_that_is_attached_again_starts_level() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for session in ("gone", "there"):
        scheduler.submit(session, FINAL, f"{session} 1")
        scheduler.submit(session, FINAL, f"{session} 2")
    scheduler.detach("gone")
    spend(scheduler, "there", 50.0, FINAL)
    spend(scheduler, "gone", 99.0, FINAL)  # in idle time, which counts neither for nor against it
    scheduler.attach("gone")
    spend(scheduler, "gone", 0.1, FINAL)
    assert turns(scheduler) == ["there 1", "there 2", "gone 1", "gone 2"]
    scheduler.submit("new", FINAL, "new")
    assert scheduler._used("new", FINAL) == pytest.approx(50.1)


def test_a_forgotten_session_leaves_nothing() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.submit("a", ANSWER, "a1")
    scheduler.submit("b", ANSWER, "b1")
    scheduler.submit("a", FINAL, "a2")
    spend(scheduler, "a", 50.0)
    assert [task.work for task in scheduler.forget("a")] == ["a1", "a2"]
    assert turns(scheduler) == ["b1"]
    scheduler.submit("b", ANSWER, "b2")
    spend(scheduler, "b", 1.0)
    scheduler.submit("a", ANSWER, "a3")  # a new session of that name starts level
    assert turns(scheduler) == ["b2", "a3"]


# ---- simulated time --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Simulated:
    """A piece of work that comes at a time and takes so many steps of so many seconds."""

    session: str
    priority: Priority
    comes_at: float
    steps: int
    step_s: float
    began_at: float = -1.0
    done_at: float = -1.0
    task: Task[Simulated] | None = field(default=None, repr=False)


@dataclass
class Device:
    """Runs simulated work as the worker does; ``now`` is its clock.

    Attributes:
        detached: sessions whose clients are gone.
    """

    work: list[Simulated]
    now: float = 0.0
    detached: tuple[str, ...] = ()
    ran: list[tuple[float, float, Simulated, bool]] = field(default_factory=list)  # begin, end, work, in its turn

    def run(self, until: float = 1e9) -> None:
        scheduler: Scheduler[Simulated] = Scheduler()
        for session in self.detached:
            scheduler.detach(session)
        coming = sorted(self.work, key=lambda work: work.comes_at)
        while self.now < until and (coming or len(scheduler)):
            if not len(scheduler):
                self.now = max(self.now, coming[0].comes_at)
            while coming and coming[0].comes_at <= self.now:
                work = coming.pop(0)
                work.task = scheduler.submit(work.session, work.priority, work)
            self._step(scheduler)

    def _step(self, scheduler: Scheduler[Simulated]) -> None:
        task = scheduler.next()
        assert task
        work, began = task.work, self.now
        urgent = min(other.priority for other in scheduler._tasks)
        work.began_at = began if work.began_at < 0 else work.began_at
        work.steps -= 1
        self.now += work.step_s
        self.ran.append((began, self.now, work, work.priority == urgent))
        scheduler.charge([task], work.step_s)
        if not work.steps:
            work.done_at = self.now
            scheduler.finish(task)


WORK = st.lists(
    st.builds(
        Simulated,
        session=st.sampled_from("abcd"),
        priority=st.sampled_from(Priority),
        comes_at=st.integers(0, 40).map(lambda tenths: tenths / 10),
        steps=st.integers(1, 12),
        step_s=st.sampled_from([0.03, 0.1, 0.5, 1.0]),
    ),
    min_size=1,
    max_size=24,
)


def run_of(work: list[Simulated], gone: set[str]) -> list[tuple[float, float, Simulated, bool]]:
    """What is run, with the work as it was before."""
    steps = [each.steps for each in work]
    device = Device(work, detached=tuple(gone))
    device.run()
    for each, count in zip(work, steps, strict=True):
        each.steps, each.began_at, each.done_at = count, -1.0, -1.0
    return device.ran


def abandoned(sessions: int, step_s: float) -> list[Simulated]:
    """Sessions that have sent two minutes of speech each, and lost their clients: finals, windows, and a question."""
    work = []
    for number in range(sessions):
        work += [Simulated(f"gone {number}", FINAL, 0.0, 1, step_s) for _ in range(20)]
        work += [Simulated(f"gone {number}", CATCH_UP, 0.0, 1, step_s) for _ in range(4)]
        work.append(Simulated(f"gone {number}", ANSWER, 0.0, 40, step_s / 10))
    return work


def test_abandoned_sessions_cost_a_live_one_the_step_under_way_and_no_more() -> None:
    step_s = 4.0
    gone = abandoned(6, step_s)
    finals = [Simulated("there", FINAL, 1.0 + 10.0 * number, 1, 1.0) for number in range(12)]
    answer = Simulated("there", ANSWER, 33.0, 40, 0.1)
    window = Simulated("there", CATCH_UP, 52.0, 1, 1.0)
    device = Device([*gone, *finals, answer, window], detached=tuple({work.session for work in gone}))
    device.run()
    assert all(each.began_at - each.comes_at <= step_s for each in (*finals, answer, window))
    assert all(each.done_at >= 0 for each in gone)  # in idle time nothing is lost


@given(WORK, st.sets(st.sampled_from("abcd")))
def test_nothing_is_done_for_a_detached_session_while_another_has_work(work: list[Simulated], gone: set[str]) -> None:
    device = Device(work, detached=tuple(gone))
    device.run()
    assert all(each.done_at >= 0 for each in work)
    for begin, _, each, _ in device.ran:
        if each.session in gone:
            others = [other for other in work if other.session not in gone]
            assert not any(other.comes_at <= begin < other.done_at for other in others)


@given(WORK, st.sets(st.sampled_from("ab")))
def test_detached_sessions_change_no_turn_of_the_others(work: list[Simulated], gone: set[str]) -> None:
    """Where no step of theirs is under way: all their work is there, and the others' comes at once."""
    for each in work:
        each.comes_at = 0.0
    order = [each for _, _, each, _ in run_of(work, gone) if each.session not in gone]
    alone = [each for _, _, each, _ in run_of([each for each in work if each.session not in gone], set())]
    assert list(map(id, order)) == list(map(id, alone))


@given(WORK)
def test_all_work_is_done_without_a_pause(work: list[Simulated]) -> None:
    device = Device(work)
    device.run()
    assert all(each.done_at >= 0 for each in work)
    for (_, end, _, _), (begin, _, _, _) in zip(device.ran, device.ran[1:], strict=False):
        assert begin == end or all(each.comes_at >= begin or each.done_at <= end for each in work)


@given(WORK)
def test_what_is_lent_stays_within_its_share(work: list[Simulated]) -> None:
    device = Device(work)
    device.run()
    in_turn = sum(end - begin for begin, end, _, in_turn in device.ran if in_turn)
    for interims, share in ((False, BACKGROUND_SHARE), (True, INTERIM_SHARE)):
        lent = [e - b for b, e, each, turn in device.ran if not turn and (each.priority is INTERIM) == interims]
        longer = max(lent, default=0.0)  # than the last step of its kind, by which it was lent
        assert sum(lent) <= share * in_turn / (1 - BACKGROUND_SHARE) + longer + 1e-6


@pytest.mark.parametrize("finals", [FINAL, LATE_FINAL])
def test_interims_have_no_share_beside_finals(finals: Priority) -> None:
    busy = [Simulated("busy", finals, 0.0, 1, 0.4) for _ in range(50)]
    interim = Simulated("talking", INTERIM, 0.0, 1, 0.02)
    Device([*busy, interim]).run()
    assert interim.began_at >= 20.0 - 1e-6


@pytest.mark.parametrize("waiting", [ANSWER, CATCH_UP])
def test_an_interim_waits_for_the_step_under_way_of_an_answer_or_of_catch_up(waiting: Priority) -> None:
    before = Simulated("talking", INTERIM, 0.0, 1, 0.1)  # what such a step takes is known
    long = Simulated("a", waiting, 0.05, 20, 0.7)
    interims = [Simulated("talking", INTERIM, second + 0.5, 1, 0.1) for second in range(1, 12)]
    Device([before, long, *interims]).run()
    assert all(each.began_at - each.comes_at <= 0.7 for each in interims)
    assert long.done_at - long.began_at <= 20 * 0.7 * (1 + INTERIM_SHARE)


def test_interims_without_end_delay_an_answer_by_their_share() -> None:
    before = Simulated("talking", INTERIM, 0.0, 1, 0.3)
    interims = [Simulated("talking", INTERIM, 0.0, 1, 0.3) for _ in range(100)]
    answer = Simulated("a", ANSWER, 0.0, 100, 0.1)
    Device([before, answer, *interims]).run()
    assert answer.done_at - answer.began_at <= 100 * 0.1 * (1 + INTERIM_SHARE) + 1e-6


def test_the_steps_of_an_interim_follow_each_other() -> None:
    before = Simulated("talking", INTERIM, 0.0, 1, 0.1)
    reading = Simulated("a", CATCH_UP, 0.05, 20, 1.0)
    interims = [Simulated("talking", INTERIM, second + 0.5, 2, 0.1) for second in range(1, 12, 2)]
    Device([before, reading, *interims]).run()
    assert all(each.done_at - each.began_at <= 0.2 + 1e-6 for each in interims)


@given(WORK)
def test_a_final_waits_for_the_step_under_way_and_for_finals_only(work: list[Simulated]) -> None:
    for each in work:  # a final is one step
        each.steps = 1 if each.priority is FINAL else each.steps
    device = Device(work)
    device.run()
    for each in (each for each in work if each.priority is FINAL):
        ahead = [(begin, other) for begin, end, other, _ in device.ran if each.comes_at < end and begin < each.began_at]
        finals = sum(other.priority is FINAL for _, other in ahead)
        others = sum(other.priority is not FINAL and begin >= each.comes_at for begin, other in ahead)
        assert others <= finals  # one may be lent after each final ahead of it


@pytest.mark.parametrize("waiting", [ANSWER, CATCH_UP])
def test_what_waits_behind_finals_without_end_is_done_all_the_same(waiting: Priority) -> None:
    finals = [Simulated("busy", FINAL, 0.0, 1, 0.4) for _ in range(500)]
    patient = Simulated("patient", waiting, 0.0, 20, 0.5)
    device = Device([*finals, patient])
    device.run(until=150.0)
    assert 0 < patient.done_at <= 20 * 0.5 * (1 + 1 / BACKGROUND_SHARE) + 1.0


@pytest.mark.parametrize("step_s", [0.02, 0.3, 0.9])
def test_a_rebuild_delays_a_running_answer_by_a_fifth_at_most(step_s: float) -> None:
    before = Simulated("a", CATCH_UP, 0.0, 1, step_s)  # what such a step takes is known
    rebuild = Simulated("b", CATCH_UP, 0.0, 1_000, step_s)
    answer = Simulated("a", ANSWER, 2.0, 100, 0.03)
    Device([before, rebuild, answer]).run(until=12.0)
    assert answer.done_at - answer.began_at <= 100 * 0.03 * (1 + BACKGROUND_SHARE) + 1e-6
    assert answer.began_at - answer.comes_at <= step_s  # the step under way


@pytest.mark.parametrize("kind", [FINAL, LATE_FINAL, INTERIM])
def test_short_captions_that_come_at_once_are_made_one_after_another(kind: Priority) -> None:
    captions = [Simulated(session, kind, 0.0, 4, 0.1) for session in "abc"]
    Device(captions).run()
    assert [round(each.done_at, 3) for each in captions] == [0.4, 0.8, 1.2]


@pytest.mark.parametrize("kind", [FINAL, LATE_FINAL, INTERIM])
def test_a_long_caption_gives_way_to_another_sessions_after_its_slice(kind: Priority) -> None:
    long, short = Simulated("a", kind, 0.0, 100, 0.1), Simulated("b", kind, 0.25, 4, 0.1)
    Device([long, short]).run()
    assert short.began_at - short.comes_at <= SLICE_S + 0.2 + 1e-6  # the step under way, and one over the slice
    assert round(short.done_at - short.began_at, 3) == 0.4


def test_long_captions_share_the_device_by_slices() -> None:
    captions = [Simulated(session, FINAL, 0.0, 1_000, 0.03) for session in "abc"]
    device = Device(captions)
    device.run(until=60.0)
    used = [sum(end - begin for begin, end, work, _ in device.ran if work is each) for each in captions]
    assert max(used) - min(used) <= SLICE_S + 0.03 + 1e-6


@given(st.lists(st.sampled_from([0.03, 0.2, 0.7]), min_size=2, max_size=6))
def test_answers_without_end_have_equal_shares(costs: list[float]) -> None:
    answers = [Simulated(str(i), ANSWER, 0.0, 100_000, cost) for i, cost in enumerate(costs)]
    device = Device(answers)
    device.run(until=60.0)
    used = [sum(end - begin for begin, end, work, _ in device.ran if work is answer) for answer in answers]
    assert max(used) - min(used) <= max(costs) + 1e-6


def test_work_done_together_is_paid_for_together() -> None:
    scheduler: Scheduler[str] = Scheduler()
    pair = [scheduler.submit(session, ANSWER, session) for session in "ab"]
    scheduler.submit("c", ANSWER, "c")
    scheduler.charge(pair, 1.0)
    spend(scheduler, "c", 0.4)
    assert turns(scheduler) == ["c", "a", "b"]
