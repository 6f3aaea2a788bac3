"""Captions: interim while an utterance is open, final when it is closed, in order."""

from __future__ import annotations

import numpy as np
import pytest

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Span
from af3stream.config import CaptionsConfig
from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.counters import Counters
from af3stream.engine.jobs import CaptionJob, EncodeJob
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedEngine
from af3stream.protocol import messages as m
from af3stream.session.hallucinations import agreed, without_loops
from af3stream.session.partial_captions import PartialCaptions
from tests.session.conversation import SECOND, SENTENCE, SILENCE, VOICE, Conversation


class Reciter(ScriptedCaptioner):
    """A captioner that says one thing after the other, whatever it hears, and remembers the drafts it was given."""

    def __init__(self, *texts: str) -> None:
        super().__init__(Counters())
        self._texts = iter(texts)
        self.drafts: list[str | None] = []

    def hear(self, request: CaptionRequest) -> Hypothesis:
        self.drafts.append(request.draft and request.draft.text)
        return Hypothesis(next(self._texts))


def reciting(*texts: str) -> Conversation:
    engine = ScriptedEngine()
    engine.captioner = Reciter(*texts)
    return Conversation(engine=engine)


def test_interims_come_before_the_final_of_the_same_utterance() -> None:
    talk = Conversation()
    talk.hear(VOICE * 2 + SILENCE)
    captions = talk.of(m.Caption)
    assert [(caption.utterance, caption.text, caption.final) for caption in captions] == [
        (0, "word1 word2", False),
        (0, "word1 word2 word3 word4", False),
        (0, "word1 word2 word3 word4.", True),
    ]
    assert captions[-1].start == 0 and captions[-1].end == 2.24
    assert captions[-1].stable == captions[-1].text


def test_interims_come_twice_as_often_as_configured_while_the_engine_has_room() -> None:
    talk = Conversation(captions=CaptionsConfig(interim_every_s=1.0))
    talk.hear(VOICE * 3)
    assert [caption.end for caption in talk.interims] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


@pytest.mark.parametrize(
    ("took_s", "every_s"), [(0.0, 0.5), (0.2, 0.8), (0.3, 1.0), (0.5, 1.0), (0.6, 1.2), (2.0, 3.0)]
)
def test_the_distance_between_interims_grows_with_what_the_last_one_took(took_s: float, every_s: float) -> None:
    partial = PartialCaptions(CaptionsConfig(interim_every_s=1.0), wanted=True)
    job = CaptionJob(0, np.zeros(0, np.float32), None, final=False, max_tokens=1)
    partial.begin(job, Span(0, SAMPLE_RATE), 1.0)
    partial.take(job, Hypothesis("one"), 1.0 + took_s)
    due = next(s for s in range(SAMPLE_RATE, 5 * SAMPLE_RATE, SAMPLE_RATE // 10) if partial.is_due(Span(0, s)))
    assert due / SAMPLE_RATE == pytest.approx(1.0 + every_s, abs=0.1001)
    assert partial.stretched == (took_s > 0.5)


def test_words_are_stable_once_the_texts_of_a_second_of_audio_agree_on_them() -> None:
    partial = PartialCaptions(CaptionsConfig(interim_every_s=1.0), wanted=True)

    def stable(end_s: float, text: str) -> str:
        (caption,) = partial.show(0, Span(0, round(end_s * SAMPLE_RATE)), Hypothesis(text))
        return caption.stable

    assert stable(1.0, "He was not an") == ""
    assert stable(1.5, "He was not an") == "", "half a second of audio is too little"
    assert stable(2.0, "He was not unkind") == "He was not"
    assert stable(2.5, "He was not unkind to her") == "He was not"
    assert stable(3.1, "He was not unkind to her") == "He was not unkind"
    assert stable(3.6, "She was not unkind to her") == ""


def test_no_interim_begins_in_a_pause_that_may_end_the_utterance() -> None:
    talk = Conversation()
    talk.hear("#" * (SECOND * 17 // 20) + "." * (SECOND // 5))
    assert talk.asked_of_engine(CaptionJob) == []
    talk.hear(VOICE)
    assert [job.final for job in talk.asked_of_engine(CaptionJob)] == [False]


def test_an_interim_begins_in_a_pause_if_no_final_does() -> None:
    talk = Conversation(captions=CaptionsConfig(interim_every_s=2.0, early_final_ms=0))
    talk.hear("#" * (SECOND * 17 // 20) + "." * (SECOND // 5))
    assert [job.final for job in talk.asked_of_engine(CaptionJob)] == [False]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("configured", [True, False])
def test_interims_are_shown_to_who_wants_them(asked: bool, configured: bool) -> None:
    talk = Conversation(m.Start(interims=asked), captions=CaptionsConfig(interims=configured))
    talk.hear(VOICE * 2 + SILENCE)
    assert bool(talk.interims) == (asked and configured)
    assert len(talk.finals) == 1


def test_finals_are_in_order() -> None:
    talk = Conversation()
    talk.hear(SENTENCE * 3)
    assert [caption.utterance for caption in talk.finals] == [0, 1, 2]
    assert all(early.end <= late.start for early, late in zip(talk.finals, talk.finals[1:], strict=False))


def test_an_interim_on_its_way_is_abandoned_when_the_utterance_closes() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(VOICE)
    (interim,) = talk.asked_of_engine(CaptionJob)
    talk.hear(SILENCE)
    talk.work()
    assert interim.final is False
    assert talk.of(m.Caption) == talk.finals


def test_an_abandoned_interim_that_still_comes_in_is_not_shown() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(VOICE)
    (interim,) = talk.asked_of_engine(CaptionJob)
    talk.hear(SILENCE)
    talk.session.complete(interim, Hypothesis("too late"), True, talk.now)
    assert talk.session.take_messages() == []


def test_at_most_one_interim_is_on_its_way() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(VOICE * 5)
    assert len(talk.asked_of_engine(CaptionJob)) == 1


def test_each_hypothesis_is_the_draft_of_the_next() -> None:
    talk = reciting("one", "one two", "one two.", "three.")
    talk.hear(VOICE * 2 + SILENCE + VOICE[:7] + SILENCE)
    captioner = talk.engine.captioner
    assert isinstance(captioner, Reciter)
    assert captioner.drafts == [None, "one", "one two", None]


def test_stable_words_may_still_change_in_case_and_punctuation() -> None:
    talk = reciting("I", "Ice cream,", "ice cream for", "ice cream for all", "Ice cream for all!")
    talk.hear(VOICE * 4 + SILENCE)
    assert [(caption.text, caption.stable) for caption in talk.of(m.Caption)] == [
        ("I", ""),
        ("Ice cream,", ""),
        ("ice cream for", ""),
        ("ice cream for all", "ice cream"),
        ("Ice cream for all", "Ice cream"),
        ("Ice cream for all!", "Ice cream for all!"),
    ]


@pytest.mark.parametrize(
    ("previous", "current", "expected"),
    [
        ("", "a b", ""),
        ("a b", "a b c", "a b"),
        ("a x", "a b c", "a"),
        ("A, b.", "a b c", "a b"),
        ("a b c", "a b", "a b"),
        ("b", "a b", ""),
    ],
)
def test_words_agree_whatever_their_case_and_punctuation(previous: str, current: str, expected: str) -> None:
    assert agreed(previous, current) == expected


def test_a_slow_engine_is_asked_for_interims_less_often() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(VOICE * 3)
    assert talk.work()[-1] == m.Degraded("interims_stretched", 0.0)  # it took 2 s for the first
    talk.hear(VOICE[: SECOND * 9 // 10])
    assert [caption.end for caption in talk.interims] == [1.0]  # and the next one's turn comes after 3 s
    talk.hear(VOICE)
    assert [caption.end for caption in talk.interims] == [1.0, 4.0]
    assert talk.of(m.Degraded)[-1].level == "none"


def test_who_falls_far_behind_drops_interims_until_finals_are_told() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(SENTENCE + SILENCE * 8)
    assert [message.level for message in talk.of(m.Degraded)] == ["interims_dropped"]
    assert talk.of(m.Degraded)[0].lag_s > 8
    assert talk.session.lag_s == 8.4
    talk.hear(VOICE * 2)
    assert [job.final for job in talk.asked_of_engine(CaptionJob)] == [False, True]
    talk.work()
    assert [message.level for message in talk.of(m.Degraded)] == ["interims_dropped", "none"]
    assert talk.session.lag_s == 0
    talk.hear(VOICE)
    assert talk.interims[-1].utterance == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("you " * 50, "you"),
        ("Thank you. " * 4, "Thank you."),
        ("no no no", "no no no"),
        ("well, well, well, Mister Bond", "well, well, well, Mister Bond"),
        ("and so it goes " * 5 + "on", "and so it goes on"),
        ("a b c d e f g h i j k l " * 4, "a b c d e f g h i j k l"),
        ("start " + "Bye. bye, " * 4 + "end", "start Bye. end"),
        ("Press ten two-under-two-under-two-under-two-under.", "Press ten two-under"),
        ("a well-known song - and well-sung, as well-kept", "a well-known song - and well-sung, as well-kept"),
        ("I was go-", "I was go-"),
        ("", ""),
    ],
)
def test_loops_are_said_once(text: str, expected: str) -> None:
    assert without_loops(text) == expected
    talk = reciting(text)
    talk.hear(VOICE[:7] + SILENCE)
    assert [caption.text for caption in talk.finals] == ([expected] if expected else [])


def test_shown_words_that_come_to_nothing_are_taken_back() -> None:
    talk = reciting("Thanks for watching", "")
    talk.hear(VOICE + SILENCE)
    assert [caption.text for caption in talk.finals] == [""]


def test_nothing_is_told_of_an_utterance_without_words() -> None:
    talk = reciting("", "")
    talk.hear(VOICE + SILENCE)
    talk.end()
    assert talk.of(m.Caption) == []
    assert talk.of(m.Ended)[0].utterances == 1


def test_finals_stay_in_order_when_one_needs_a_second_attempt() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(SENTENCE * 2)
    first, second = [job for job in talk.asked_of_engine(CaptionJob) if job.final]
    talk.session.complete(second, Hypothesis("second"), True, talk.now)
    assert not any(isinstance(message, m.Caption) for message in talk.session.take_messages())
    talk.session.complete(first, Hypothesis("first"), True, talk.now)
    told = [message for message in talk.session.take_messages() if isinstance(message, m.Caption)]
    assert [caption.text for caption in told] == ["first", "second"]


def test_delays_are_measured_from_the_arrival_of_the_last_word() -> None:
    talk = Conversation()
    talk.hear(VOICE + SILENCE)
    assert talk.metrics.registry.get_sample_value("af3stream_final_delay_seconds_sum") == pytest.approx(0.6, abs=0.11)


def test_silence_and_music_ask_nothing_of_the_engine() -> None:
    talk = Conversation()
    talk.hear(SILENCE * 60 + "~" * 500, block=50)
    assert talk.asked_of_engine(CaptionJob) == [] and talk.asked_of_engine(EncodeJob) == []
