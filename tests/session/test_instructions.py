"""Instructions: every prompt begins with them; others mean that the audio is read again."""

from __future__ import annotations

import pytest

from af3stream.config import AudioConfig, QuestionsConfig
from af3stream.engine.contract import Instructions
from af3stream.engine.jobs import AnswerJob, ExtendJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.errors import BadText, QueryLimit
from af3stream.models.card import Notes
from af3stream.protocol import messages as m
from af3stream.session.questions import NOTHING_HEARD
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation

EAGER = AudioConfig(window_min_s=1.0)  # every pause closes a window
LONG = VOICE * 3 + SILENCE


def talking(instructions: str = "", notes: Notes = "all", **questions: int) -> Conversation:
    return Conversation(
        m.Start(instructions=instructions),
        engine=ScriptedEngine(window_s=4.0, windows=7),
        notes=notes,
        audio=EAGER,
        questions=QuestionsConfig(notes_max_tokens=100, **questions),
    )


@pytest.mark.parametrize("notes", ["off", "forgotten", "all"])
def test_every_prompt_begins_with_them(notes: Notes) -> None:
    talk = talking("Be brief.", notes)
    talk.hear(SENTENCE * 2 + VOICE)
    assert talk.ask().text.startswith("What? <- [Be brief.] | 1.24s | ")
    assert talk.ask(last_s=0.5).text.startswith("What? <- [Be brief.] | ")
    for job in (*talk.asked_of_engine(AnswerJob), *talk.asked_of_engine(ExtendJob)):
        assert job.parts[0] == Instructions("Be brief.")


def test_they_are_read_before_anybody_speaks() -> None:
    talk = talking("Be brief.")
    talk.hear(SILENCE)
    assert [job.parts for job in talk.asked_of_engine(ExtendJob)] == [(Instructions("Be brief."),)]
    assert talk.ask().text == NOTHING_HEARD


def test_without_them_nothing_stands_before_the_audio() -> None:
    talk = talking()
    talk.hear(SENTENCE)
    assert talk.ask().text.startswith("What? <- 1.24s | ")


def test_other_instructions_hold_for_the_next_question_and_the_windows_are_read_again() -> None:
    talk = talking("Be brief.")
    talk.hear(SENTENCE * 2)
    before = talk.asked_of_engine(ExtendJob)[-1].parts
    talk.tell(m.Instruct("Rhyme."))
    assert talk.asked_of_engine(ExtendJob)[-1].parts == (Instructions("Rhyme."), *before[1:])
    assert talk.ask().text.startswith("What? <- [Rhyme.] | 1.24s | ")
    assert talk.asked_of_engine(AnswerJob)[-1].prefix == len(before)  # over the prefix that was read again


def test_no_instructions_bring_the_models_own_back() -> None:
    talk = talking("Be brief.")
    talk.hear(SENTENCE)
    talk.tell(m.Instruct(""))
    assert talk.ask().text.startswith("What? <- 1.24s | ")
    assert talk.asked_of_engine(AnswerJob)[-1].prefix


def test_a_question_does_not_wait_until_the_windows_are_read_again() -> None:
    talk = talking("Be brief.", read_tokens=40)
    talk.hear(LONG * 4)
    talk.working = False
    talk.tell(m.Instruct("Rhyme."))
    talk.tell(m.Ask("q", "What?"))
    (job,) = talk.asked_of_engine(AnswerJob)
    assert job.parts[0] == Instructions("Rhyme.") and job.prefix == 0
    talk.work()
    (answer,) = talk.of(m.Answer)
    assert answer.text.startswith("What? <- [Rhyme.] | ") and answer.captioned_until is not None
    assert talk.ask().windows == 4  # the next one hears all again


def test_a_window_that_is_being_read_with_the_old_instructions_is_read_again_with_the_new_ones() -> None:
    talk = talking("Be brief.")
    talk.working = False
    talk.hear(SENTENCE)
    while not any(len(job.parts) > 1 for job in talk.asked_of_engine(ExtendJob)):
        talk.work_once()
    talk.tell(m.Instruct("Rhyme."))
    talk.work()
    *_, old, instructions, again = [job.parts for job in talk.asked_of_engine(ExtendJob)]
    assert old[0] == Instructions("Be brief.") and instructions == (Instructions("Rhyme."),)
    assert again == (*instructions, *old[1:])
    assert talk.ask().text.startswith("What? <- [Rhyme.] | 1.24s | ")
    assert talk.asked_of_engine(AnswerJob)[-1].prefix == len(again)


def test_the_context_window_rolls_beside_the_prefix_in_use() -> None:
    talk = talking("Be brief.", notes="off")
    talk.hear(LONG * 12)
    rebuilds = [job for job in talk.asked_of_engine(ExtendJob) if job.rebuild]
    assert rebuilds and all(job.parts[0] == Instructions("Be brief.") for job in rebuilds)


def test_they_take_no_windows_out_of_the_context_window() -> None:
    heard = []
    for instructions in ("", "word " * 300):
        talk = talking(instructions, notes="off", max_instructions_chars=2_000)
        talk.hear(LONG * 7)
        heard.append(talk.ask().windows)
    assert heard == [7, 7]


def test_a_watch_is_asked_with_them() -> None:
    talk = talking("Be brief.")
    talk.tell(m.Watch("w", "Rain?"))
    talk.hear(SENTENCE)
    assert talk.of(m.WatchHit)[0].text.startswith("Rain? <- [Be brief.] | ")


def test_lines_and_indentation_stay_and_control_characters_go() -> None:
    talk = talking(" \u202ePoints:\r\n\t- one\x00\n  - two\n")
    talk.hear(SENTENCE)
    assert talk.asked_of_engine(ExtendJob)[-1].parts[0] == Instructions("Points:\n\t- one\n  - two")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("x" * 401, QueryLimit, id="characters"),
        pytest.param("a " * 170, QueryLimit, id="positions"),
        pytest.param("\ud800", BadText, id="half a character"),
    ],
)
def test_bad_instructions_are_refused_and_change_nothing(text: str, error: type[Exception]) -> None:
    def small(start: m.Start) -> Conversation:
        engine = ScriptedEngine(window_s=4.0, windows=1, positions=600)
        return Conversation(start, engine=engine, questions=QuestionsConfig(max_instructions_chars=400, max_tokens=9))

    with pytest.raises(error):
        small(m.Start(instructions=text))
    talk = small(m.Start(instructions="Be brief."))
    with pytest.raises(error):
        talk.tell(m.Instruct(text))
    talk.hear(SENTENCE)
    assert "[Be brief.]" in talk.ask().text
