"""A question may follow up another: what was asked and answered stands before it as turns of a chat."""

from __future__ import annotations

import pytest

from af3stream.config import QuestionsConfig
from af3stream.engine.contract import Turn
from af3stream.engine.jobs import AnswerJob, Failed
from af3stream.errors import UnknownQuestion
from af3stream.protocol import messages as m
from af3stream.session.exchanges import MOST_EXCHANGES, Exchanges
from tests.session.conversation import VOICE, Conversation


def listening(**questions: int) -> Conversation:
    talk = Conversation(questions=QuestionsConfig(**questions))  # type: ignore[arg-type]
    talk.hear(VOICE)
    return talk


def earlier(talk: Conversation) -> list[str]:
    """The questions before the newest one."""
    return [turn.question for turn in talk.asked_of_engine(AnswerJob)[-1].earlier]


def test_the_question_and_its_answer_stand_before_the_next() -> None:
    talk = listening()
    talk.tell(m.Ask("a", "Who?"))
    talk.tell(m.Ask("b", "And why?", after="a"))
    assert talk.asked_of_engine(AnswerJob)[-1].earlier == (Turn("Who?", "Who? <- 1s"),)
    assert talk.of(m.Answer)[-1].text == "And why? <- 1s | (Who? Who? <- 1s)"


def test_what_it_followed_stands_before_it_too_and_nothing_else() -> None:
    talk = listening()
    talk.tell(m.Ask("a", "A?"))
    talk.tell(m.Ask("x", "X?"))
    talk.tell(m.Ask("b", "B?", after="a"))
    talk.tell(m.Ask("c", "C?", after="b"))
    assert earlier(talk) == ["A?", "B?"]
    talk.tell(m.Ask("d", "D?", after="a"))
    assert earlier(talk) == ["A?"]
    talk.tell(m.Ask("e", "E?"))
    assert earlier(talk) == []


def test_an_id_stands_for_its_newest_answer() -> None:
    talk = listening()
    talk.tell(m.Ask("a", "First?"))
    talk.tell(m.Ask("a", "Second?"))
    talk.tell(m.Ask("b", "B?", after="a"))
    assert earlier(talk) == ["Second?"]


def test_a_question_may_follow_one_that_is_still_to_be_answered() -> None:
    talk = listening()
    talk.working = False
    talk.tell(m.Ask("a", "A?"))
    talk.tell(m.Ask("b", "B?", after="a"))
    talk.work()
    assert earlier(talk) == ["A?"]
    assert [(answer.question, answer.after) for answer in talk.of(m.Answer)] == [("A?", None), ("B?", "a")]


def test_what_it_is_to_follow_may_fail() -> None:
    talk = listening()
    talk.working = False
    talk.tell(m.Ask("a", "A?"))
    talk.tell(m.Ask("b", "B?", after="a"))
    (job,) = talk.asked_of_engine(AnswerJob)
    talk.session.complete(job, Failed("no"), True, talk.now)
    talk.work()
    told = [(error.code, error.ref) for error in talk.of(m.Error)]
    assert told == [("engine_failed", "a"), ("unknown_question", "b")]
    assert talk.of(m.Answer) == [] and not talk.session.owing


@pytest.mark.parametrize("after", ["b", 1])
def test_what_is_not_there_cannot_be_followed(after: int | str) -> None:
    talk = listening()
    talk.tell(m.Ask("a", "A?"))
    with pytest.raises(UnknownQuestion) as refused:
        talk.tell(m.Ask("q", "Q?", after=after))
    assert refused.value.ref == "q"


def test_a_refused_follow_up_leaves_nothing_behind() -> None:
    talk = listening()
    with pytest.raises(UnknownQuestion):
        talk.tell(m.Ask("q", "Q?", after="nothing"))
    assert not talk.session.owing
    assert talk.ask("Q?").text == "Q? <- 1s"


def test_a_question_that_was_taken_back_is_followed_as_far_as_it_was_answered() -> None:
    talk = listening()
    talk.working = False
    talk.tell(m.Ask("a", "A?"))
    (job,) = talk.asked_of_engine(AnswerJob)
    talk.session.complete(job, "So far", False, talk.now)
    talk.tell(m.Cancel("a"))
    talk.tell(m.Ask("b", "B?", after="a"))
    assert talk.asked_of_engine(AnswerJob)[-1].earlier == (Turn("A?", "So far"),)


def test_the_oldest_turns_are_left_out_where_there_is_no_room() -> None:
    talk = listening(earlier_max_tokens=12)  # a word a position: a turn here is of 1 + 3 words, and then of more
    for before, name in zip([None, "a", "b"], "abc", strict=True):
        talk.tell(m.Ask(name, f"{name}?", after=before, max_tokens=3))
    talk.tell(m.Ask("d", "D?", after="c"))
    assert earlier(talk) == ["a?", "b?", "c?"]
    talk.tell(m.Ask("e", "E?", after="d"))
    assert earlier(talk) == []  # the newest does not fit, and none is told without those after it


def test_answers_are_found_by_their_events_after_a_restart() -> None:
    exchanges = Exchanges()
    told = [
        m.Answer("a", "One.", 0, 1, 0, 1, "stop", event=3, question="A?"),
        m.Answer("b", "Two.", 0, 1, 0, 1, "stop", event=5, question="B?", after=3),
    ]
    for answer in told:
        exchanges.add(answer)
    found = exchanges.find(5)
    assert found and found.turns == (Turn("A?", "One."), Turn("B?", "Two."))
    assert exchanges.find("b") is found and exchanges.find(4) is None


def test_so_many_answers_can_be_followed_and_no_more() -> None:
    exchanges = Exchanges()
    for number in range(1, 3 * MOST_EXCHANGES):
        exchanges.add(m.Answer(f"q{number}", "So.", 0, 1, 0, 1, "stop", event=number, question="A?"))
    assert exchanges.find(1) is None and exchanges.find(3 * MOST_EXCHANGES - 1)
    assert len(exchanges) == 2 * MOST_EXCHANGES
