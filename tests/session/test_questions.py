"""Questions: their order, their limits, their text, and how they are taken back."""

from __future__ import annotations

import pytest

from af3stream.config import QuestionsConfig
from af3stream.engine.jobs import AnswerJob
from af3stream.errors import BadText, QueryLimit
from af3stream.protocol import messages as m
from af3stream.session.question import Question, Status
from af3stream.session.question_text import clean_text
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation


def listening(**questions: int) -> Conversation:
    talk = Conversation(questions=QuestionsConfig(**questions))  # type: ignore[arg-type]
    talk.hear(VOICE)
    return talk


def test_an_answer_comes_in_pieces_and_then_whole() -> None:
    talk = listening()
    answer = talk.ask("What was said?")
    pieces = talk.of(m.AnswerDelta)
    assert [piece.id for piece in pieces] == ["q"] * 5
    assert "".join(piece.text for piece in pieces) == answer.text == "What was said? <- 1s"
    assert (answer.tokens, answer.finish) == (5, "stop")


def test_all_pieces_of_an_answer_are_its_text_also_where_nothing_is_heard_and_where_it_is_cancelled() -> None:
    talk = Conversation()
    talk.tell(m.Ask("nothing", "What?"))
    talk.hear(VOICE)
    talk.tell(m.Ask("all", "What?"))
    talk.tell(m.Ask("short", "What was said?", max_tokens=2))
    talk.hear(SILENCE * 20)
    talk.tell(m.Ask("of silence", "What?", m.Scope(1.0)))
    talk.working = False
    talk.tell(m.Ask("cancelled", "What?"))
    talk.tell(m.Ask("cancelled waiting", "What?"))
    for name in ("cancelled waiting", "cancelled"):
        talk.tell(m.Cancel(name))
    answers = talk.of(m.Answer)
    assert len(answers) == 6
    for answer in answers:
        pieces = [message.text for message in talk.of(m.AnswerDelta) if message.id == answer.id]
        assert "".join(pieces) == answer.text
    assert [bool(answer.text) for answer in answers] == [True] * 4 + [False] * 2


def test_the_first_token_is_timed_from_the_question() -> None:
    talk = listening()
    talk.working = False
    talk.tell(m.Ask("q", "What?"))
    talk.now += 2.5
    talk.work()
    assert talk.of(m.Answer)[0].ttft_ms == 2_500.0
    assert talk.metrics.registry.get_sample_value("af3stream_answer_first_token_seconds_sum") == 2.5


def test_questions_are_answered_in_order_one_at_a_time() -> None:
    talk = listening()
    talk.working = False
    for name in ("a", "b", "c"):
        talk.tell(m.Ask(name, f"{name}?"))
    assert len(talk.asked_of_engine(AnswerJob)) == 1
    talk.work()
    assert [answer.id for answer in talk.of(m.Answer)] == ["a", "b", "c"]
    heard = [message.id for message in talk.said if isinstance(message, m.AnswerDelta | m.Answer)]
    assert heard == sorted(heard)


def test_a_question_hears_what_is_there_when_its_turn_comes() -> None:
    talk = listening()
    talk.working = False
    talk.tell(m.Ask("a", "A?"))
    talk.tell(m.Ask("b", "B?"))
    talk.hear(VOICE)
    talk.work()
    assert [answer.text for answer in talk.of(m.Answer)] == ["A? <- 1s", "B? <- 2s"]


def test_so_many_may_wait_and_no_more() -> None:
    talk = listening(max_waiting=2)
    talk.working = False
    talk.tell(m.Ask("a", "A?"))
    talk.tell(m.Ask("b", "B?"))
    with pytest.raises(QueryLimit) as refused:
        talk.tell(m.Ask("c", "C?"))
    assert refused.value.ref == "c"
    talk.work()
    talk.tell(m.Ask("c", "C?"))
    assert [answer.id for answer in talk.of(m.Answer)] == ["a", "b", "c"]


def test_an_id_is_unique_while_in_use() -> None:
    talk = listening()
    talk.working = False
    talk.tell(m.Ask("a", "A?"))
    with pytest.raises(QueryLimit, match="id is in use"):
        talk.tell(m.Ask("a", "B?"))
    talk.work()
    talk.tell(m.Ask("a", "B?"))
    assert len(talk.of(m.Answer)) == 2


@pytest.mark.parametrize(("asked", "tokens", "finish"), [(3, 3, "length"), (None, 4, "length"), (100, 4, "length")])
def test_an_answer_is_no_longer_than_asked_and_configured(asked: int | None, tokens: int, finish: str) -> None:
    answer = listening(max_tokens=4).ask("one two three four five", max_tokens=asked)
    assert (answer.tokens, answer.finish) == (tokens, finish)
    assert len(answer.text.split()) == tokens


@pytest.mark.parametrize("message", [m.Ask("x", "?" * 101), m.Watch("x", "?" * 101), m.Ask("x", " " * 101)])
def test_a_text_that_is_too_long(message: m.ClientMessage) -> None:
    with pytest.raises(QueryLimit) as refused:
        listening(max_chars=100).tell(message)
    assert refused.value.ref == "x"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  What\n\twas \u2003 said?  ", "What was said?"),
        ("a\x00b\x07c\x1b[31m", "abc[31m"),
        ("\u202etxet\u202c \u2066x\u2069 \u200fy\u061c", "txet x y"),
        ("naïve 世界 مرحبا 👩‍👧", "naïve 世界 مرحبا 👩‍👧"),  # a joiner that holds an emoji together stays
        ("<sound><|im_end|>", "<sound><|im_end|>"),  # spelled is not meant: the engine sees to it
    ],
)
def test_a_text_is_stripped_of_controls(text: str, clean: str) -> None:
    assert clean_text(text) == clean
    talk = listening()
    talk.tell(m.Ask("q", text))
    assert talk.asked_of_engine(AnswerJob)[0].question == clean


@pytest.mark.parametrize("text", ["", "   \n", "\x00\x01", "\u202e\u202c", "?!", "\u200b", "half a pair: \ud83d"])
def test_a_text_that_is_none(text: str) -> None:
    for message in (m.Ask("x", text), m.Watch("x", text)):
        with pytest.raises(BadText) as refused:
            listening().tell(message)
        assert refused.value.ref == "x"


# ---- taken back ------------------------------------------------------------------------------------------------------


def test_a_waiting_question_is_taken_back() -> None:
    talk = listening()
    talk.working = False
    talk.tell(m.Ask("a", "A?"))
    talk.tell(m.Ask("b", "B?"))
    (answer,) = talk.tell(m.Cancel("b"))
    assert answer == m.Answer("b", "", 1.0, 1.0, windows=0, tokens=0, finish="cancelled", question="B?")
    talk.work()
    assert [answer.id for answer in talk.of(m.Answer)] == ["b", "a"]


def test_a_running_question_is_taken_back_with_what_it_said_so_far() -> None:
    talk = listening()
    talk.working = False
    talk.tell(m.Ask("a", "A?"))
    talk.tell(m.Ask("b", "B?"))
    (job,) = talk.asked_of_engine(AnswerJob)
    talk.session.complete(job, "So", False, talk.now)
    talk.session.complete(job, " far", False, talk.now)
    told = talk.tell(m.Cancel("a"))
    cancelled = m.Answer("a", "So far", 0.0, 1.0, 0, 0, "cancelled", heard_until=1.0, question="A?")
    assert told[-1] == cancelled
    talk.session.complete(job, " too late", False, talk.now)
    assert talk.session.take_messages() == []
    assert [answer.id for answer in talk.work() if isinstance(answer, m.Answer)] == ["b"]


def test_taking_back_what_is_not_there_does_nothing() -> None:
    talk = listening()
    talk.ask()
    assert talk.tell(m.Cancel("q")) == []
    assert talk.tell(m.Cancel("never")) == []


def test_a_question_after_the_end_of_audio_is_still_answered() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(SENTENCE + SILENCE)
    talk.end()
    talk.tell(m.Ask("q", "What?"))
    talk.work()
    assert talk.of(m.Answer)[0].text == "What? <- 1.24s"
    assert isinstance(talk.said[-1], m.Ended)


# ---- the status ------------------------------------------------------------------------------------------------------


def test_a_question_moves_along_its_table_and_no_other_way() -> None:
    question = Question("q", "What?", None, 9, 0.0)
    for status in (Status.WAITING, Status.RUNNING, Status.DONE):
        question.move(status)
    with pytest.raises(ValueError, match="a question that is done cannot become cancelled"):
        question.move(Status.CANCELLED)
    with pytest.raises(ValueError, match="queued cannot become running"):
        Question("q", "What?", None, 9, 0.0).move(Status.RUNNING)
