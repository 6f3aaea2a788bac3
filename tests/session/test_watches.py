"""Watches: standing questions, asked again as windows close or as audio passes, told when their answer changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from af3stream.config import AudioConfig, QuestionsConfig
from af3stream.engine.contract import Completion, Lookup, PromptPart, Turn
from af3stream.engine.jobs import AnswerJob
from af3stream.engine.scripted import ScriptedContext, ScriptedEngine
from af3stream.errors import QueryLimit
from af3stream.protocol import messages as m
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation

EAGER = AudioConfig(window_min_s=1.0)


class Oracle(ScriptedEngine):
    """Gives one answer after the other, whatever is asked."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self._answers = iter(answers)

    def context(self, embeddings: Lookup) -> ScriptedContext:
        answers = self._answers

        class Context(ScriptedContext):
            def answer(
                self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
            ) -> Iterator[str | Completion]:
                yield next(answers)
                yield Completion(1, "stop", 1)

        return Context(self.counters, embeddings)


def test_a_watch_is_asked_as_windows_close() -> None:
    talk = Conversation(audio=EAGER)
    talk.tell(m.Watch("w", "Who?"))
    talk.hear(VOICE)
    assert talk.of(m.WatchHit) == []
    talk.hear(SILENCE + SENTENCE)
    assert talk.of(m.WatchHit) == [
        m.WatchHit("w", "Who? <- 1.24s", 0.0, 1.24),
        m.WatchHit("w", "Who? <- 1.24s | 1.48s", 0.0, 3.24),
    ]
    assert talk.of(m.AnswerDelta) == [] and talk.of(m.Answer) == []


def test_a_watch_is_asked_every_so_many_seconds_of_audio() -> None:
    talk = Conversation()
    talk.tell(m.Watch("w", "Who?", every_s=2.0))
    talk.hear(VOICE * 5)
    assert [hit.text for hit in talk.of(m.WatchHit)] == ["Who? <- 2s", "Who? <- 4s"]


def test_a_watch_of_the_same_id_and_text_takes_the_other_interval() -> None:
    talk = Conversation()
    talk.tell(m.Watch("w", "Who?", every_s=60.0))
    talk.tell(m.Watch("w", "Who?", every_s=0.2))  # taken as a second
    talk.hear(VOICE * 2)
    assert [hit.text for hit in talk.of(m.WatchHit)] == ["Who? <- 1s", "Who? <- 2s"]


def test_a_watch_over_nothing_is_silent() -> None:
    talk = Conversation()
    talk.tell(m.Watch("w", "Who?", every_s=1.0))
    talk.hear(SILENCE * 3)
    assert talk.asked_of_engine(AnswerJob) == [] and talk.of(m.WatchHit) == []
    talk.hear(VOICE)
    assert len(talk.of(m.WatchHit)) == 1


def test_only_a_changed_answer_is_told() -> None:
    talk = Conversation(engine=Oracle("No.", "no", "Yes!", "yes.", "No"))
    talk.tell(m.Watch("w", "Music?", every_s=1.0))
    talk.hear(VOICE * 5)
    assert [hit.text for hit in talk.of(m.WatchHit)] == ["No.", "Yes!", "No"]
    assert len(talk.asked_of_engine(AnswerJob)) == 5


def test_a_watch_that_is_ended_is_not_asked_and_not_told() -> None:
    talk = Conversation()
    talk.tell(m.Watch("w", "Who?", every_s=1.0))
    talk.working = False
    talk.hear(VOICE)
    assert len(talk.asked_of_engine(AnswerJob)) == 1
    talk.tell(m.Unwatch("w"))
    talk.work()
    talk.hear(VOICE * 2)
    assert talk.of(m.WatchHit) == []
    assert len(talk.asked_of_engine(AnswerJob)) == 1


def test_a_watch_waits_at_most_once() -> None:
    talk = Conversation()
    talk.tell(m.Watch("w", "Who?", every_s=1.0))
    talk.working = False
    talk.hear(VOICE * 5)
    talk.work()
    assert len(talk.asked_of_engine(AnswerJob)) == 2  # when it was due first, and now for all the rest


def test_questions_go_before_watches() -> None:
    talk = Conversation()
    talk.working = False
    talk.tell(m.Ask("first", "A?"))
    talk.hear(VOICE)
    talk.tell(m.Ask("q1", "B?"))
    for name in ("w1", "w2"):
        talk.tell(m.Watch(name, "Who?", every_s=1.0))
    talk.tell(m.Ask("q2", "C?"))
    talk.work()
    told = [message.id for message in talk.said if isinstance(message, m.Answer | m.WatchHit)]
    assert told == ["first", "q1", "q2", "w1", "w2"]


def test_so_many_watches_and_no_more() -> None:
    talk = Conversation(questions=QuestionsConfig(max_watches=1))
    talk.tell(m.Watch("a", "A?"))
    with pytest.raises(QueryLimit) as refused:
        talk.tell(m.Watch("b", "B?"))
    assert refused.value.ref == "b"
    talk.tell(m.Unwatch("a"))
    talk.tell(m.Watch("b", "B?"))


def test_a_watch_of_the_same_name_takes_the_place_of_the_other() -> None:
    talk = Conversation(questions=QuestionsConfig(max_watches=1))
    talk.tell(m.Watch("w", "Old?", every_s=1.0))
    talk.tell(m.Watch("w", "New?", every_s=1.0))
    talk.hear(VOICE)
    assert [hit.text for hit in talk.of(m.WatchHit)] == ["New? <- 1s"]


def test_watches_take_no_question_of_anyones_turn() -> None:
    talk = Conversation(questions=QuestionsConfig(max_waiting=1))
    talk.working = False
    talk.tell(m.Watch("w", "Who?", every_s=1.0))
    talk.hear(VOICE)
    talk.tell(m.Ask("w", "What?"))  # a watch's id is no question's
    talk.work()
    assert [answer.id for answer in talk.of(m.Answer)] == ["w"]


def test_the_end_asks_a_last_time() -> None:
    talk = Conversation()
    talk.tell(m.Watch("w", "Who?"))
    talk.hear(VOICE)
    talk.end()
    assert talk.of(m.WatchHit) == [m.WatchHit("w", "Who? <- 1s", 0.0, 1.0)]
    assert isinstance(talk.said[-1], m.Ended)
