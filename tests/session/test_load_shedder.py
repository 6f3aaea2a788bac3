"""Who falls behind gives up one thing after the other, and says so; audio is always taken in, and nothing is lost."""

from __future__ import annotations

import pytest

from af3stream.engine.jobs import AnswerJob, CaptionJob
from af3stream.protocol import messages as m
from af3stream.session.load_shedder import LoadShedder
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation


def levels(talk: Conversation) -> list[str]:
    return [message.level for message in talk.of(m.Degraded)]


def behind(seconds: int, *, interims: bool = True) -> Conversation:
    """Someone whose first sentence waits for an engine that does nothing, while so many seconds of silence pass."""
    talk = Conversation(m.Start(interims=interims))
    talk.working = False
    talk.hear(SENTENCE + SILENCE * seconds)
    return talk


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (6, []),
        (9, ["interims_dropped"]),
        (31, ["interims_dropped", "finals_late"]),
    ],
)
def test_every_step_is_told_with_the_lag_that_asked_for_it(seconds: int, expected: list[str]) -> None:
    talk = behind(seconds, interims=False)
    assert levels(talk) == expected
    assert all(message.lag_s > {"i": 8, "f": 30}[message.level[0]] for message in talk.of(m.Degraded))
    talk.work()
    assert levels(talk)[-1:] == (["none"] if expected else [])  # by way of what the window's own lag asks for
    assert talk.session.lag_s == 0


def test_what_came_before_work_became_due_is_no_lag() -> None:
    talk = Conversation()
    talk.hear(SENTENCE + SILENCE * 9, block=10 * len(SILENCE))
    assert talk.finals
    assert levels(talk) == []


def test_the_first_step_stretches_interims() -> None:
    ladder = LoadShedder()
    assert ladder.step(0.0, stretched=True) == [m.Degraded("interims_stretched", 0.0)]
    assert ladder.step(0.0, stretched=True) == []
    assert ladder.step(0.0, stretched=False) == [m.Degraded("none", 0.0)]


def test_the_second_step_drops_interims() -> None:
    talk = behind(9)
    talk.hear(VOICE * 5)
    assert [job.final for job in talk.asked_of_engine(CaptionJob)] == [False, True]
    talk.work()
    assert talk.hear(VOICE * 2) and talk.interims


def test_no_step_lets_questions_wait() -> None:
    talk = behind(31)
    talk.tell(m.Ask("q", "What?"))
    assert len(talk.asked_of_engine(AnswerJob)) == 1


def test_finals_that_are_far_behind_leave_the_device_to_questions() -> None:
    talk = Conversation(m.Start(interims=False))
    talk.working = False
    talk.hear((SENTENCE + SILENCE * 3) * 4)
    assert [job.late for job in talk.asked_of_engine(CaptionJob)] == [False, False, True, True]
    talk.tell(m.Ask("q", "What?"))
    brought = [message for message in talk.work() if isinstance(message, m.Caption | m.Answer)]
    assert [type(message) for message in brought] == [m.Caption, m.Caption, m.Answer, m.Caption, m.Caption]


def test_the_third_step_is_late_finals_and_every_one_of_them_comes() -> None:
    talk = Conversation(m.Start(interims=False))
    talk.working = False
    for _ in range(10):
        talk.hear(SENTENCE + SILENCE * 3)
    assert levels(talk)[-1] == "finals_late"
    assert talk.finals == [] and talk.of(m.Error) == []
    assert talk.of(m.Ack)[-1].received == pytest.approx(talk.sent, abs=4_000)  # audio is taken in all the while
    talk.work()
    assert [caption.utterance for caption in talk.finals] == list(range(10))
    talk.end()
    (ended,) = talk.of(m.Ended)
    assert (ended.total, ended.lost_s, ended.utterances) == (talk.sent, 0, 10)


def test_the_last_step_is_the_servers_and_is_told_whatever_the_own_lag() -> None:
    talk = Conversation()
    talk.session.refuse_others(True, talk.now)
    assert talk.pass_time(1) == [m.Degraded("sessions_refused", 0.0)]
    talk.hear(VOICE * 2)
    assert talk.interims  # it gives up nothing that it need not
    talk.session.refuse_others(True, talk.now)
    talk.session.refuse_others(False, talk.now)
    talk.pass_time(1)
    assert levels(talk) == ["sessions_refused", "none"]
