"""An engine that fails costs what it was asked for, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from af3stream.config import CaptionsConfig
from af3stream.engine.captioning import CaptionRequest, Hypothesis, Samples
from af3stream.engine.contract import Embeddings
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Failed
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedEngine
from af3stream.errors import EngineFailed
from af3stream.protocol import messages as m
from tests.session.conversation import SENTENCE, VOICE, Conversation

WHEN_CLOSED = CaptionsConfig(early_final_ms=0, interim_every_s=2.0)


class Failing(ScriptedEngine):
    """Fails so many times at what is named."""

    def __init__(self, captions: int = 0, encodes: int = 0) -> None:
        super().__init__()
        self.left = {"captions": captions, "encodes": encodes}
        self.captioner = FailingCaptioner(self)

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        self.fail("encodes")
        return super().encode(windows)

    def fail(self, what: str) -> None:
        if self.left[what]:
            self.left[what] -= 1
            raise RuntimeError("out of memory")


class FailingCaptioner(ScriptedCaptioner):
    def __init__(self, engine: Failing) -> None:
        super().__init__(engine.counters)
        self._engine = engine

    def hear(self, request: CaptionRequest) -> Hypothesis:
        if request.final:
            self._engine.fail("captions")
        return super().hear(request)


@pytest.mark.parametrize("what", ["captions", "encodes"])
def test_what_fails_once_is_done_once_more_and_nobody_is_told(what: str) -> None:
    talk = Conversation(engine=Failing(**{what: 1}))
    talk.hear(SENTENCE)
    talk.end()
    assert talk.of(m.Error) == []
    assert [caption.text for caption in talk.finals] == ["word1 word2."]
    assert len(talk.of(m.Window)) == 1
    assert isinstance(talk.said[-1], m.Ended)


def test_a_caption_that_fails_twice_is_told_and_given_up() -> None:
    talk = Conversation(m.Start(interims=False), engine=Failing(captions=2), captions=WHEN_CLOSED)
    talk.hear(SENTENCE * 2)
    (error,) = talk.of(m.Error)
    assert (error.code, error.fatal, error.retryable) == (EngineFailed.code, False, True)
    assert "out of memory" not in error.message
    assert [caption.utterance for caption in talk.finals] == [1]
    talk.end()
    assert isinstance(talk.said[-1], m.Ended)


def test_shown_words_of_a_caption_that_failed_are_taken_back() -> None:
    talk = Conversation(engine=Failing(captions=2), captions=WHEN_CLOSED)
    talk.hear(SENTENCE)
    assert [(caption.text, caption.final) for caption in talk.of(m.Caption)] == [("word1 word2", False), ("", True)]


def test_a_window_that_fails_twice_is_told_and_out_of_every_questions_reach() -> None:
    talk = Conversation(engine=Failing(encodes=2))
    talk.hear(SENTENCE)
    talk.tell(m.Flush("f"))
    (error,) = talk.of(m.Error)
    assert error.code == EngineFailed.code
    assert talk.of(m.Window) == []
    talk.hear(VOICE)
    assert talk.ask().text == "What? <- 1s"
    talk.end()
    assert talk.of(m.Ack)[-1] == m.Ack(talk.sent, talk.sent)
    assert isinstance(talk.said[-1], m.Ended)


def test_a_question_that_fails_is_told_with_its_id_and_the_next_one_is_answered() -> None:
    talk = Conversation(engine=Failing(encodes=1))
    talk.hear(VOICE)
    talk.tell(m.Ask("a", "A?"))
    talk.tell(m.Ask("b", "B?"))
    (error,) = talk.of(m.Error)
    assert (error.code, error.ref, error.retryable) == (EngineFailed.code, "a", True)
    assert [answer.id for answer in talk.of(m.Answer)] == ["b"]


def test_a_watch_that_fails_is_asked_again_when_it_is_due() -> None:
    talk = Conversation(engine=Failing(encodes=1))
    talk.tell(m.Watch("w", "Who?", every_s=1.0))
    talk.hear(VOICE * 2)
    assert [error.ref for error in talk.of(m.Error)] == ["w"]
    assert [hit.text for hit in talk.of(m.WatchHit)] == ["Who? <- 2s"]


def test_an_interim_that_fails_is_not_told() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(VOICE)
    (interim,) = talk.asked_of_engine(CaptionJob)
    talk.session.complete(interim, Failed("no"), True, talk.now)
    assert talk.session.take_messages() == []


def test_a_prefix_that_could_not_be_kept_costs_no_answer() -> None:
    talk = Conversation()
    talk.hear(VOICE)
    talk.working = False
    talk.tell(m.Flush("f"))
    while not (extends := talk.asked_of_engine(ExtendJob)):
        talk.work_once()
    talk.worker.cancel("s", extends[0].id)
    talk.session.complete(extends[0], Failed("no"), True, talk.now)
    talk.work()
    assert talk.ask().text == "What? <- 1s"
    assert len(talk.asked_of_engine(EncodeJob)) == 1 and len(talk.asked_of_engine(AnswerJob)) == 1
