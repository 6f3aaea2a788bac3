"""What a question hears: which windows, which words, in which order, and how the past rolls off."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from af3stream.audio.events import Window
from af3stream.config import AudioConfig, QuestionsConfig
from af3stream.engine.contract import AudioSegment, Capacity, Text
from af3stream.engine.jobs import AnswerJob, ExtendJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.models.card import Frames
from af3stream.protocol import messages as m
from af3stream.session.caption_line import CaptionLine
from af3stream.session.context_window import ContextWindow
from af3stream.session.questions import NOTHING_HEARD
from tests.session.conversation import SECOND, SENTENCE, SILENCE, VOICE, Conversation

EAGER = AudioConfig(window_min_s=1.0)  # every pause closes a window
LONG = VOICE * 3 + SILENCE  # a window of 3.24 s, or 3.48 s after a pause


def talking(notes: Literal["off", "forgotten", "all"] = "off", notes_max_tokens: int = 0) -> Conversation:
    """Each `LONG` is a window; the tenth makes the two oldest roll off."""
    questions = QuestionsConfig(notes_max_tokens=notes_max_tokens)
    return Conversation(engine=ScriptedEngine(window_s=4.0, windows=7), notes=notes, audio=EAGER, questions=questions)


# ---- the body --------------------------------------------------------------------------------------------------------


def test_a_question_hears_closed_windows_and_the_open_one() -> None:
    talk = talking()
    talk.hear(SENTENCE * 2 + VOICE)
    answer = talk.ask()
    assert answer.text == "What? <- 1.24s | 1.48s | 1.24s"
    assert (answer.start, answer.end, answer.windows) == (0.0, 5.0, 2)


def test_a_question_hears_an_open_window_before_any_is_closed() -> None:
    talk = talking()
    talk.hear(VOICE)
    answer = talk.ask()
    assert (answer.text, answer.windows) == ("What? <- 1s", 0)


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ("off", "What? <- 1.24s | 1.48s | 1.24s"),
        ("forgotten", "What? <- 1.24s | 1.48s | 1.24s"),
        (
            "all",
            "What? <- 1.24s | [0:00] word1 word2. | 1.48s | [0:01] word1 word2. | 1.24s | [0:03] word1 word2",
        ),
    ],
)
def test_captions_stand_after_the_sound_they_are_of(notes: Literal["off", "forgotten", "all"], expected: str) -> None:
    talk = talking(notes, notes_max_tokens=100)
    talk.hear(SENTENCE * 2 + VOICE)
    assert talk.ask().text == expected


def test_the_kept_prefix_is_how_every_body_begins() -> None:
    talk = talking("all", notes_max_tokens=100)
    talk.hear(SENTENCE * 2)
    prefix = talk.asked_of_engine(ExtendJob)[-1].parts
    assert [type(part) for part in prefix] == [AudioSegment, Text, AudioSegment, Text]
    talk.ask()
    assert talk.asked_of_engine(AnswerJob)[-1].parts == prefix
    talk.hear(VOICE)
    talk.ask()
    assert talk.asked_of_engine(ExtendJob)[-1].parts == prefix  # what is open changes nothing of it
    assert talk.asked_of_engine(AnswerJob)[-1].parts[: len(prefix)] == prefix


def test_a_window_joins_the_prefix_once_its_captions_are_final() -> None:
    subject = context_window("all")
    heard(subject, 0)
    assert subject.next_extend() is None
    subject.settle([line(0)], final_before=64_001)
    assert (job := subject.next_extend()) and [type(part) for part in job.parts] == [AudioSegment, Text]


def test_a_window_is_encoded_once() -> None:
    talk = talking()
    talk.hear(SENTENCE * 3)
    for _ in range(3):
        talk.ask()
    assert talk.engine.counters.sounds_encoded == 3


# ---- scope -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_s", "sounds", "start"),
    [
        (1.0, "1.24s", 5.76),  # the open window alone
        (1.3, "1.24s", 5.76),
        (2.8, "1.48s | 1.24s", 3.76),  # a window that the scope only reaches into
        (100.0, "1.24s | 1.48s | 1.48s | 1.24s", 0.0),
    ],
)
def test_a_scope_hears_exactly_the_windows_it_reaches_into(last_s: float, sounds: str, start: float) -> None:
    talk = talking()
    talk.hear(SENTENCE * 3 + VOICE)
    answer = talk.ask(last_s=last_s)
    assert answer.text == f"What? <- {sounds}"
    assert (answer.start, answer.end) == (start, 7.0)


def test_a_scope_in_which_nothing_was_heard() -> None:
    talk = talking()
    talk.hear(SENTENCE + SILENCE * 10, block=SECOND)
    answer = talk.ask(last_s=5.0)
    assert (answer.text, answer.start, answer.end) == (NOTHING_HEARD, 12.0, 12.0)
    assert (answer.windows, answer.tokens, answer.finish) == (0, 0, "stop")
    assert talk.asked_of_engine(AnswerJob) == []
    assert talk.ask().text == "What? <- 1.24s"


def test_nothing_was_heard_at_all() -> None:
    assert talking().ask().text == NOTHING_HEARD


# ---- rolling ---------------------------------------------------------------------------------------------------------


def test_the_context_window_rolls_by_a_rebuild_of_what_stays() -> None:
    talk = talking()
    talk.hear(LONG * 8, block=SECOND)
    assert not any(job.rebuild for job in talk.asked_of_engine(ExtendJob))
    assert talk.ask().windows == 8
    talk.hear(LONG, block=SECOND)
    *_, rebuild, append = talk.asked_of_engine(ExtendJob)
    assert rebuild.rebuild and not append.rebuild
    assert append.parts[:-1] == rebuild.parts  # the newest follows once it is encoded
    answer = talk.ask()
    assert (answer.windows, answer.start) == (6, 11.76)


def test_a_roll_leaves_room_until_the_next() -> None:
    talk = talking()
    talk.hear(LONG * 30, block=SECOND)
    rebuilds = [job for job in talk.asked_of_engine(ExtendJob) if job.rebuild]
    assert 3 < len(rebuilds) < 10
    assert talk.engine.counters.sounds_encoded == 30  # never again


def test_answers_during_a_rebuild_hear_the_windows_they_heard_before() -> None:
    talk = talking()
    talk.hear(LONG * 8 + VOICE * 3, block=SECOND)
    talk.working = False
    talk.hear(SILENCE, block=SECOND)
    while not talk.asked_of_engine(ExtendJob)[-1].rebuild:
        talk.work_once()
    talk.tell(m.Ask("q", "What?"))
    assert len(talk.asked_of_engine(AnswerJob)[-1].parts) == 9
    talk.work()
    assert talk.ask().windows == 6


def test_each_window_joins_the_prefix_by_itself() -> None:
    talk = talking("all")
    talk.hear(LONG * 3, block=SECOND)
    jobs = talk.asked_of_engine(ExtendJob)
    assert [len(job.parts) for job in jobs] == [2, 4, 6]
    assert all(job.parts == jobs[-1].parts[: len(job.parts)] for job in jobs)


@pytest.mark.parametrize("notes", ["forgotten", "all"])
def test_what_fell_off_stays_as_words(notes: Literal["forgotten", "all"]) -> None:
    talk = talking(notes, notes_max_tokens=200)
    talk.hear(LONG * 30, block=SECOND)
    answer = talk.ask()
    parts = talk.asked_of_engine(AnswerJob)[-1].parts
    first, *others = (part.text.count("word1") for part in parts if isinstance(part, Text))
    assert isinstance(parts[0], Text) and answer.windows < 30
    assert first == 30 - answer.windows
    assert others == ([] if notes == "forgotten" else [1] * answer.windows)  # each sentence once


@pytest.mark.parametrize("limit", [20, 1])
def test_words_that_fell_off_keep_within_their_positions_the_newest_first(limit: int) -> None:
    talk = talking("forgotten", notes_max_tokens=limit)
    talk.hear(LONG * 15, block=SECOND)
    talk.ask()
    texts = [part for part in talk.asked_of_engine(AnswerJob)[-1].parts if isinstance(part, Text)]
    assert all(talk.engine.tokens.count(part.text) <= limit for part in texts)
    assert all(part.text.endswith("word6.\n") for part in texts)
    assert bool(texts) == (limit > 1)


def test_a_prompt_never_takes_more_positions_than_there_are() -> None:
    engine = ScriptedEngine(window_s=4.0, windows=7, positions=700)
    talk = Conversation(engine=engine, notes="all", audio=EAGER)
    for _ in range(12):
        talk.hear(LONG, block=SECOND)
        talk.ask()
    for job in talk.asked_of_engine(AnswerJob):
        count = engine.tokens.count
        cost = sum(part.tokens if isinstance(part, AudioSegment) else count(part.text) for part in job.parts)
        assert cost + 192 + 256 <= 700


# ---- the context window alone ---------------------------------------------------------------------------------------


def context_window(notes: Literal["off", "forgotten", "all"] = "forgotten", frames: Frames = "all") -> ContextWindow:
    """Windows of 4 s, 100 positions each, two of which are too many beside an open one."""
    engine = ScriptedEngine()
    return ContextWindow(
        Capacity(64_000, 1, 8_192),
        notes,
        frames,
        notes_max_tokens=50,
        reply_tokens=10,
        read_tokens=400,
        tokens=engine.tokens.frames,
        count=engine.tokens.count,
    )


def window(index: int) -> Window:
    start = index * 64_000
    return Window(index, start, start + 64_000, np.zeros(64_000, np.float32))


def line(index: int) -> CaptionLine:
    return CaptionLine(index, index * 64_000, index * 64_000 + 60_000, f"said{index}")


def heard(subject: ContextWindow, index: int) -> None:
    """A window closes and is encoded."""
    entry = subject.close(window(index))
    assert entry.sound
    subject.resident = frozenset({entry.sound})
    subject.encoded(entry.encode_job())


def test_words_of_a_forgotten_window_are_not_those_of_the_next_one_too() -> None:
    subject = context_window()
    for index in (0, 1):
        heard(subject, index)
    subject.settle([line(0)], final_before=100_000)  # the words of window 1 are not final yet
    first = subject.next_extend()
    assert first and first.rebuild
    subject.extended(first)
    subject.settle([line(0), line(1)], final_before=200_000)
    heard(subject, 2)
    while job := subject.next_extend():
        subject.extended(job)
        last = job
    assert [part.text for part in last.parts if isinstance(part, Text)] == ["[0:00] said0\n[0:04] said1\n"]


def test_a_window_that_could_not_be_encoded_stands_as_its_captions() -> None:
    subject = context_window("all")
    heard(subject, 0)
    failed = subject.close(window(1))
    assert failed.sound
    subject.drop(failed.encode_job())
    subject.settle([line(0), line(1)], final_before=200_000)
    body, _ = subject.prompt(0, None, (), question_tokens=8)
    assert body and [type(part) for part in body.parts] == [AudioSegment, Text, Text]
    assert (body.coverage.windows, body.coverage.start, body.coverage.end) == (2, 0, 128_000)
    assert subject.oldest_pending is None


def test_no_window_is_evicted_once_captions_in_place_of_audio_made_room() -> None:
    subject = context_window("all", "uncaptioned")
    first = subject.close(window(0))
    subject.settle([], final_before=64_001)  # it has no captions, so its audio is needed
    assert first.sound
    subject.encoded(first.encode_job())
    subject.close(window(1))
    subject.close(window(2))
    assert subject.next_extend() is None  # three windows of audio are too many, and the newer ones are undecided
    subject.settle([line(1), line(2)], final_before=200_000)
    assert (job := subject.next_extend()) and job.parts == (first.sound,)


def test_without_notes_it_is_out_of_reach() -> None:
    subject = context_window("off")
    heard(subject, 0)
    failed = subject.close(window(1))
    assert failed.sound
    subject.drop(failed.encode_job())
    body, _ = subject.prompt(0, None, (), question_tokens=8)
    assert body and (body.coverage.windows, body.coverage.start, body.coverage.end) == (1, 0, 64_000)
    assert subject.oldest_pending is None


def test_a_prefix_that_a_newer_one_replaced_is_not_lost() -> None:
    subject = context_window("off")
    heard(subject, 0)
    first = subject.next_extend()
    assert first
    subject.extended(first)
    before = AnswerJob(first.parts, "What?", 9, prefix=1)
    subject.settle([], final_before=200_000)
    for index in (1, 2):
        heard(subject, index)
        subject.settle([], final_before=400_000)
        while job := subject.next_extend():
            subject.extended(job)
            newest = job
    assert newest.parts[0] is not first.parts[0]  # it was rebuilt without the first window
    subject.lost(before)
    assert subject.next_extend() is None
    subject.lost(AnswerJob(newest.parts, "What?", 9, prefix=len(newest.parts)))
    assert subject.next_extend() is not None
