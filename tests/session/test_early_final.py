"""The final decode begins in the pause that may end an utterance; its words are used if the pause holds."""

from __future__ import annotations

import numpy as np
import pytest

from af3stream.config import CaptionsConfig
from af3stream.engine.captioning import Hypothesis, Voices
from af3stream.engine.jobs import CaptionJob, Failed, VoiceJob
from af3stream.protocol import messages as m
from tests.session.conversation import SECOND, SENTENCE, SILENCE, VOICE, Conversation

SHORT_PAUSE = "." * (SECOND * 3 // 10)  # longer than 250 ms, shorter than the 600 ms that end an utterance


def finals_begun(talk: Conversation) -> list[CaptionJob]:
    return [job for job in talk.asked_of_engine(CaptionJob) if job.final]


def test_the_final_decode_begins_a_quarter_second_into_the_pause_and_is_done_once() -> None:
    talk = Conversation()
    talk.hear(VOICE)
    talk.hear("." * (SECOND // 5))
    assert finals_begun(talk) == []
    talk.hear("." * (SECOND // 10))
    (job,) = finals_begun(talk)
    assert talk.finals == []
    talk.hear(SILENCE)
    assert finals_begun(talk) == [job]
    assert [caption.text for caption in talk.finals] == ["word1 word2."]


def test_a_final_that_is_there_is_told_with_the_message_that_ends_the_pause() -> None:
    talk = Conversation()
    talk.hear(VOICE + SHORT_PAUSE)
    talk.working = False
    talk.hear(SILENCE)
    assert [caption.text for caption in talk.finals] == ["word1 word2."]


def test_it_hears_the_samples_of_the_closed_utterance() -> None:
    early, closed = Conversation(), Conversation(captions=CaptionsConfig(early_final_ms=0))
    for talk in (early, closed):
        talk.hear(SENTENCE)
    (begun,), (waited) = finals_begun(early), finals_begun(closed)
    assert np.array_equal(begun.samples, waited[0].samples)
    assert early.finals == closed.finals


def test_a_voice_that_goes_on_cancels_it_and_the_whole_utterance_is_heard() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(VOICE + SHORT_PAUSE)
    (given_up,) = finals_begun(talk)
    talk.hear(VOICE + SILENCE)
    talk.session.complete(given_up, Hypothesis("half of it"), True, talk.now)
    talk.work()
    assert len(finals_begun(talk)) == 2
    assert [caption.text for caption in talk.finals] == ["word1 word2 word3 word4 word5."]


def test_each_pause_of_one_utterance_has_its_own() -> None:
    talk = Conversation()
    talk.hear((VOICE + SHORT_PAUSE) * 3 + SILENCE)
    assert [len(job.samples) for job in finals_begun(talk)] == [19_840, 40_640, 61_440]
    assert len(talk.finals) == 1


def test_its_words_are_shown_as_a_partial_caption_without_the_full_stop() -> None:
    talk = Conversation()
    talk.hear(VOICE * 2 + VOICE[: SECOND * 3 // 4] + SHORT_PAUSE)
    shown = talk.of(m.Caption)[-1]
    assert (shown.final, shown.text) == (False, "word1 word2 word3 word4 word5")


def test_one_that_fails_is_begun_again_when_the_utterance_closes() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(VOICE + SHORT_PAUSE)
    (job,) = finals_begun(talk)
    talk.session.complete(job, Failed("no memory"), True, talk.now)
    talk.hear("." * (SECOND // 10))
    assert finals_begun(talk) == [job]  # not again in the same pause
    talk.hear(SILENCE)
    talk.work()
    assert len(finals_begun(talk)) == 2
    assert [caption.text for caption in talk.finals] == ["word1 word2."]
    assert talk.of(m.Error) == []


def test_none_is_begun_while_a_final_caption_waits_for_the_engine() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(SENTENCE)
    talk.hear(VOICE + SHORT_PAUSE)
    assert [job.utterance for job in finals_begun(talk)] == [0]


# ---- sessions that tell speakers apart -------------------------------------------------------------------------------

LOUD, SOFT = VOICE * 3, "+" * (3 * SECOND)  # three seconds of one voice, and of another


def with_speakers(scene: str, *, early_ms: int = 250, working: bool = True) -> Conversation:
    talk = Conversation(m.Start(speakers=True), captions=CaptionsConfig(interim_every_s=2.0, early_final_ms=early_ms))
    talk.working = working
    talk.hear(scene)
    return talk


def test_voices_are_heard_in_the_pause_and_then_the_final_decode_begins() -> None:
    talk = with_speakers(LOUD + SHORT_PAUSE, working=False)
    assert [type(job) for job in talk.jobs if not isinstance(job, CaptionJob) or job.final] == [VoiceJob]
    talk.work()
    (job,) = finals_begun(talk)
    talk.hear(SILENCE)
    assert finals_begun(talk) == [job] and len(talk.asked_of_engine(VoiceJob)) == 1
    assert [caption.speaker for caption in talk.finals] == [1]


def test_a_final_with_its_speaker_is_told_with_the_message_that_ends_the_pause() -> None:
    talk = with_speakers(LOUD + SHORT_PAUSE)
    talk.working = False
    talk.hear(SILENCE)
    assert [(caption.text, caption.speaker) for caption in talk.finals] == [("word1 word2 word3 word4 word5 word6.", 1)]


@pytest.mark.parametrize(
    "scene", [LOUD + SILENCE, LOUD + SOFT + SILENCE, LOUD + SILENCE + SOFT + SHORT_PAUSE + LOUD + SILENCE]
)
def test_speakers_and_captions_are_those_of_finals_that_begin_after_the_pause(scene: str) -> None:
    early, late = with_speakers(scene), with_speakers(scene, early_ms=0)
    assert early.finals == late.finals
    assert early.of(m.SpeakerUpdate) == late.of(m.SpeakerUpdate)


def test_an_utterance_that_is_to_be_divided_is_captioned_when_it_closes() -> None:
    talk = with_speakers(LOUD + SOFT + SHORT_PAUSE)
    assert len(talk.asked_of_engine(VoiceJob)) == 1 and finals_begun(talk) == []
    talk.hear(SILENCE)
    assert [(job.utterance, job.final) for job in finals_begun(talk)] == [(0, True), (1, True)]
    assert len(talk.asked_of_engine(VoiceJob)) == 1


def test_voices_that_come_after_the_pause_are_those_of_the_closed_utterance() -> None:
    talk = with_speakers(LOUD + SHORT_PAUSE + SILENCE, working=False)
    (job,) = talk.asked_of_engine(VoiceJob)
    assert finals_begun(talk) == []
    talk.work()
    assert [caption.speaker for caption in talk.finals] == [1]
    assert talk.asked_of_engine(VoiceJob) == [job]


def test_a_voice_that_goes_on_cancels_the_voices_of_the_pause() -> None:
    talk = with_speakers(LOUD + SHORT_PAUSE, working=False)
    (given_up,) = talk.asked_of_engine(VoiceJob)
    talk.hear(LOUD + SILENCE)
    talk.session.complete(given_up, Voices(np.eye(len(given_up.stretches), dtype=np.float32)), True, talk.now)
    talk.work()
    assert [caption.speaker for caption in talk.finals] == [1]
    assert len(talk.asked_of_engine(VoiceJob)) == 2


def test_voices_that_fail_in_the_pause_leave_the_speaker_unknown() -> None:
    talk = with_speakers(LOUD + SHORT_PAUSE, working=False)
    (job,) = talk.asked_of_engine(VoiceJob)
    talk.session.complete(job, Failed("no memory"), True, talk.now)
    talk.hear(SILENCE)
    talk.work()
    assert [caption.speaker for caption in talk.finals] == [None]
    assert talk.asked_of_engine(VoiceJob) == [job]
