"""What a question waits for, where captions stand in the prompt: the words of all that was said before its turn."""

from __future__ import annotations

import pytest

from af3stream.config import CaptionsConfig, QuestionsConfig
from af3stream.engine.captioning import Hypothesis
from af3stream.engine.contract import Text
from af3stream.engine.jobs import AnswerJob, CaptionJob, Failed
from af3stream.protocol import messages as m
from tests.captioned import captioned
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation, kinds


def behind(scene: str, start: m.Start | None = None) -> Conversation:
    """Someone who speaks a scene while the engine does nothing, with captions in the prompt."""
    talk = Conversation(start, notes="all", captions=CaptionsConfig())
    talk.working = False
    talk.hear(scene)
    return talk


def test_a_question_waits_for_the_final_words_of_what_was_said_before_it() -> None:
    talk = behind(SENTENCE * 2)
    talk.tell(m.Ask("q", "What?"))
    assert not talk.asked_of_engine(AnswerJob)
    brought = talk.work()
    assert talk.of(m.Answer)[0].text == "What? <- 3.24s | [0:00] word1 word2. [0:01] word1 word2."
    assert kinds(brought).index("answer_delta") > max(i for i, kind in enumerate(kinds(brought)) if kind == "caption")


def test_and_not_for_what_is_said_after_it() -> None:
    talk = behind(SENTENCE)
    talk.tell(m.Ask("q", "What?"))
    talk.hear(VOICE + SILENCE[:40])
    first, second = (job for job in talk.asked_of_engine(CaptionJob) if job.final)
    talk.session.complete(first, captioned(talk.engine.captioner, first.samples, max_tokens=9), True, 4)
    assert [type(job) for job in talk.session.take_jobs()][:1] == [AnswerJob]
    assert talk.session._pipeline.track.oldest_waiting is not None and not second.urgent


def test_an_open_utterance_whose_words_are_behind_is_heard_first_and_as_urgently() -> None:
    talk = behind(VOICE * 3)
    (slow,) = talk.asked_of_engine(CaptionJob)
    talk.tell(m.Ask("q", "What?"))
    _, urgent = talk.asked_of_engine(CaptionJob)
    assert (len(slow.samples), slow.urgent) == (8_000, False)
    assert (len(urgent.samples), urgent.urgent) == (48_000, True)
    talk.work()
    assert talk.of(m.Answer)[0].text == "What? <- 3s | [0:00] word1 word2 word3 word4 word5 word6"
    assert [caption.text for caption in talk.interims] == ["word1 word2 word3 word4 word5 word6"]


def test_words_that_keep_up_are_not_heard_again() -> None:
    talk = Conversation(notes="all")
    talk.hear(VOICE * 2 + VOICE[: len(VOICE) // 2])
    before = len(talk.asked_of_engine(CaptionJob))
    assert talk.ask().text == "What? <- 2.5s | [0:00] word1 word2 word3 word4"
    assert len(talk.asked_of_engine(CaptionJob)) == before


def test_who_wants_no_interims_is_answered_with_the_words_and_shown_none() -> None:
    talk = Conversation(m.Start(interims=False), notes="all", captions=CaptionsConfig())
    talk.hear(VOICE * 3)
    assert talk.ask().text == "What? <- 3s | [0:00] word1 word2 word3 word4 word5 word6"
    assert talk.of(m.Caption) == []
    talk.now += 10
    talk.hear(SILENCE)
    assert [caption.final for caption in talk.of(m.Caption)] == [True]
    assert talk.of(m.Degraded) == []


@pytest.mark.parametrize("notes", ["off", "forgotten"])
def test_where_no_captions_stand_in_the_prompt_nothing_is_waited_for(notes: str) -> None:
    talk = Conversation(notes=notes)  # type: ignore[arg-type]
    talk.working = False
    talk.hear(SENTENCE + VOICE * 3)
    talk.tell(m.Ask("q", "What?"))
    assert len(talk.asked_of_engine(AnswerJob)) == 1
    assert not any(job.urgent for job in talk.asked_of_engine(CaptionJob))


def test_a_draft_that_fails_costs_no_answer() -> None:
    talk = behind(VOICE * 3)
    talk.tell(m.Ask("q", "What?"))
    _, urgent = talk.asked_of_engine(CaptionJob)
    talk.session.complete(urgent, Failed("no"), True, talk.now)
    assert [type(job) for job in talk.session.take_jobs()] == [AnswerJob]


def test_an_utterance_that_closes_meanwhile_is_heard_for_good_instead() -> None:
    talk = behind(VOICE * 3)
    talk.tell(m.Ask("q", "What?"))
    talk.hear(SILENCE)
    talk.work()
    assert talk.of(m.Answer)[0].text == "What? <- 3.24s | [0:00] word1 word2 word3 word4 word5 word6."
    assert [caption.text for caption in talk.of(m.Caption)] == ["word1 word2 word3 word4 word5 word6."]


def test_a_question_is_taken_back_while_it_waits_for_words() -> None:
    talk = behind(SENTENCE)
    talk.tell(m.Ask("q", "What?"))
    (answer,) = (message for message in talk.tell(m.Cancel("q")) if isinstance(message, m.Answer))
    assert (answer.finish, answer.text) == ("cancelled", "")
    talk.work()
    assert len(talk.of(m.Answer)) == 1 and not talk.asked_of_engine(AnswerJob)


def test_a_question_waits_two_seconds_and_then_takes_the_partial_captions() -> None:
    talk = Conversation(notes="all")
    talk.hear(VOICE * 2)
    talk.working = False
    talk.hear(SILENCE)
    talk.tell(m.Ask("q", "What?"))
    talk.pass_time(1.99)
    assert not talk.asked_of_engine(AnswerJob)
    assert talk.session.next_deadline == pytest.approx(talk.now + 0.01)
    talk.pass_time(0.02)
    (job,) = talk.asked_of_engine(AnswerJob)
    assert [part.text for part in job.parts if isinstance(part, Text)] == ["[0:00] word1 word2 word3 word4\n"]


def test_what_has_no_words_after_that_is_left_out_and_the_answer_says_so() -> None:
    talk = Conversation(notes="all")
    talk.hear(SENTENCE * 2)
    talk.working = False
    talk.hear(VOICE + SILENCE)
    talk.tell(m.Ask("q", "What?"))
    talk.pass_time(2.01)
    last = next(job for job in reversed(talk.jobs) if isinstance(job, CaptionJob) and job.final)
    talk.worker.cancel("s", last.id)
    talk.work()
    (answer,) = talk.of(m.Answer)
    assert answer.text == "What? <- 5.24s | [0:00] word1 word2. [0:01] word1 word2."
    assert (answer.heard_until, answer.captions_from, answer.captioned_until) == (5.24, 0.0, 3.24)


def test_how_long_a_question_waits_is_configured() -> None:
    talk = Conversation(notes="all", questions=QuestionsConfig(captions_wait_s=0))
    talk.working = False
    talk.hear(SENTENCE)
    talk.tell(m.Ask("q", "What?"))
    assert len(talk.asked_of_engine(AnswerJob)) == 1


def test_nothing_is_waited_for_that_is_too_far_behind_to_come_in_time() -> None:
    talk = behind(SENTENCE + SILENCE * 9)
    talk.tell(m.Ask("q", "What?"))
    assert len(talk.asked_of_engine(AnswerJob)) == 1


def test_a_second_question_waits_from_its_own_turn_on() -> None:
    talk = behind(SENTENCE)
    talk.tell(m.Ask("one", "What?"))
    talk.tell(m.Ask("two", "What?"))
    talk.pass_time(2.01)
    assert talk.session.next_deadline is None  # the first one is running
    (job,) = talk.asked_of_engine(AnswerJob)
    talk.session.complete(job, Failed("no"), True, talk.now)
    assert talk.session.next_deadline == pytest.approx(talk.now + 2)


def test_captions_before_a_hole_are_not_said_to_reach_over_it() -> None:
    talk = Conversation(notes="all", questions=QuestionsConfig(captions_wait_s=0.5))
    talk.hear(SENTENCE * 2)
    talk.working = False
    talk.hear(SENTENCE + VOICE * 2)
    (late,) = (job for job in talk.asked_of_engine(CaptionJob)[-2:] if job.final)
    talk.tell(m.Ask("q", "What?"))
    talk.pass_time(0.51)
    assert len(talk.asked_of_engine(AnswerJob)) == 1
    talk.worker.cancel("s", late.id)
    talk.work()
    (answer,) = talk.of(m.Answer)
    assert (answer.captions_from, answer.captioned_until) == (0.0, 3.24)


def test_nor_are_those_after_it() -> None:
    talk = Conversation(notes="all", questions=QuestionsConfig(captions_wait_s=0))
    talk.hear(SENTENCE)
    talk.working = False
    talk.hear(SENTENCE + VOICE * 2)
    *_, urgent = (job for job in talk.asked_of_engine(CaptionJob) if not job.final)
    talk.session.complete(urgent, Hypothesis("newest words"), True, talk.now)
    talk.tell(m.Ask("q", "What?"))
    (job,) = talk.asked_of_engine(AnswerJob)
    assert [part.text for part in job.parts if isinstance(part, Text)] == ["[0:00] word1 word2.\n[0:03] newest words\n"]
    talk.session.complete(job, "So", False, talk.now)
    (answer,) = (message for message in talk.tell(m.Cancel("q")) if isinstance(message, m.Answer))
    assert answer.captions_from == 3.76 and answer.captioned_until > 4
