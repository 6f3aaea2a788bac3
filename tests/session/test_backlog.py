"""A question never waits for a backlog: what is not read yet stands as its newest captions."""

from __future__ import annotations

import pytest

from af3stream.config import AudioConfig, QuestionsConfig
from af3stream.engine.contract import AudioSegment, PromptPart, Text
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, PrefixLost
from af3stream.models.card import Notes
from af3stream.protocol import messages as m
from tests.captioned import captioned
from tests.session.conversation import SECOND, SILENCE, VOICE, Conversation

EAGER = AudioConfig(window_min_s=1.0)  # every pause closes a window
LONG = VOICE * 3 + SILENCE  # a window of 3.24 s (81 positions), or 3.48 s (87) after a pause; 7 positions of captions


def behind(windows: int, read_tokens: int, read: int = 0, notes: Notes = "all", scene: str = LONG) -> Conversation:
    """Someone all of whose words are there, and of whose windows only the first are encoded and read."""
    questions = QuestionsConfig(read_tokens=read_tokens)
    talk = Conversation(notes=notes, audio=EAGER, questions=questions)
    talk.hear(scene * read, block=SECOND)
    talk.working = False
    for _ in range(windows - read):
        talk.hear(scene, block=SECOND)
        caption(talk)
    return talk


def caption(talk: Conversation) -> None:
    """Let the captioner work, and nothing else of the engine."""
    for job in [job for job in talk.jobs if isinstance(job, CaptionJob) and job.final]:
        talk.worker.cancel("s", job.id)
        talk.session.complete(job, captioned(talk.engine.captioner, job.samples), True, talk.now)
    talk._carry()


def asked(talk: Conversation, **fields: object) -> AnswerJob:
    """The job of a question that is asked now."""
    talk.tell(m.Ask("q", "What?", **fields))  # type: ignore[arg-type]
    return talk.asked_of_engine(AnswerJob)[-1]


def shape(parts: tuple[PromptPart, ...]) -> str:
    """S for a sound, and the number of captions of a text."""
    return " ".join("S" if isinstance(part, AudioSegment) else str(part.text.count("word1")) for part in parts)


def test_windows_that_are_not_read_stand_as_their_captions() -> None:
    talk = behind(5, read_tokens=50, read=2)
    job = asked(talk)
    assert (shape(job.parts), job.prefix) == ("S 1 S 1 1 1 1", 4)
    talk.work()
    (answer,) = talk.of(m.Answer)
    assert answer.windows == 5
    assert (answer.heard_until, answer.captions_from, answer.captioned_until) == (7.24, 0.0, 19.24)


def test_the_newest_captions_are_read_where_there_is_no_time_for_all() -> None:
    talk = behind(9, read_tokens=15, read=2)
    job = asked(talk)
    assert shape(job.parts) == "S 1 S 1 1 1"
    assert [part.text[:7] for part in job.parts[4:] if isinstance(part, Text)] == ["[0:27] ", "[0:31] "]
    talk.work()
    (answer,) = talk.of(m.Answer)
    assert (answer.heard_until, answer.captions_from, answer.captioned_until) == (7.24, 27.76, 35.24)
    assert answer.windows == 4


def test_a_window_that_is_encoded_is_heard_too_where_there_is_room_beside_all_captions() -> None:
    talk = behind(3, read_tokens=110, read=1)
    talk.session.note_resident(frozenset(job.segment for job in talk.asked_of_engine(EncodeJob)))
    for job in talk.asked_of_engine(EncodeJob)[1:]:
        talk.worker.cancel("s", job.id)
        talk.session.complete(job, None, True, talk.now)
    assert shape(asked(talk).parts) == "S 1 1 S 1"


def test_reading_goes_on_in_the_background_and_the_prefix_catches_up() -> None:
    talk = behind(5, read_tokens=50)
    assert shape(asked(talk).parts) == "1 1 1 1 1"
    talk.work()
    assert shape(talk.asked_of_engine(ExtendJob)[-1].parts) == "S 1 S 1 S 1 S 1 S 1"
    assert talk.ask().heard_until == 19.24
    assert talk.asked_of_engine(AnswerJob)[-1].prefix == 10


def test_no_question_is_the_reason_that_anything_is_encoded_or_read() -> None:
    talk = behind(4, read_tokens=50)
    jobs = len(talk.asked_of_engine(EncodeJob)), len(talk.asked_of_engine(ExtendJob))
    asked(talk)
    assert (len(talk.asked_of_engine(EncodeJob)), len(talk.asked_of_engine(ExtendJob))) == jobs


def test_the_open_window_is_heard_where_there_is_room_and_read_otherwise() -> None:
    for tokens, expected in ((100, "S 1 S 1"), (60, "S 1 1")):
        talk = Conversation(notes="all", audio=EAGER, questions=QuestionsConfig(read_tokens=tokens))
        talk.hear(LONG + VOICE * 3, block=SECOND)
        assert shape(asked(talk).parts) == expected


def test_the_newest_window_is_heard_at_any_cost_where_nothing_else_tells_of_it() -> None:
    talk = Conversation(notes="all", questions=QuestionsConfig(read_tokens=10, captions_wait_s=0))
    talk.working = False
    talk.hear(VOICE * 4)
    assert shape(asked(talk).parts) == "S"


def test_the_newest_caption_is_read_however_long_it_is() -> None:
    assert shape(asked(behind(2, read_tokens=3)).parts) == "1"


@pytest.mark.parametrize(("tokens", "expected"), [(400, "S S"), (50, "1 1")])
def test_a_scope_reads_captions_where_its_windows_are_too_long(tokens: int, expected: str) -> None:
    talk = behind(5, read_tokens=tokens, read=5)
    job = asked(talk, scope=m.Scope(6.0))
    assert shape(job.parts).replace("S 1", "S") == expected
    assert (job.prefix, job.instead) == (0, ())


@pytest.mark.parametrize(("tokens", "expected"), [(400, "S S S"), (50, "S 1 1")])
def test_captions_stand_in_too_where_they_stand_in_no_prompt_else(tokens: int, expected: str) -> None:
    talk = behind(3, read_tokens=tokens, read=1, notes="forgotten")
    if tokens == 400:
        talk.work()
    assert shape(asked(talk).parts) == expected


def test_without_notes_nothing_can_stand_in_and_every_window_is_heard() -> None:
    talk = behind(4, read_tokens=50, read=1, notes="off")
    assert shape(asked(talk).parts) == "S S S S"


# ---- a prefix that was evicted ---------------------------------------------------------------------------------------


def test_a_question_over_an_evicted_prefix_reads_captions_and_the_prefix_is_read_again() -> None:
    talk = behind(5, read_tokens=50, read=5)
    talk.worker.evict_all()
    job = asked(talk)
    assert shape(job.instead) == "1 1 1 1 1"
    talk.work()
    answer = talk.of(m.Answer)[-1]
    assert answer.text.count("[") == 5 and (answer.heard_until, answer.captions_from) == (None, 0.0)
    again = talk.ask()
    assert (again.heard_until, talk.asked_of_engine(AnswerJob)[-1].prefix) == (19.24, 10)


def test_the_loss_of_a_prefix_is_no_answer() -> None:
    talk = behind(2, read_tokens=50, read=2)
    job = asked(talk)
    talk.session.complete(job, PrefixLost(), False, talk.now)
    assert talk.session.take_messages() == []
