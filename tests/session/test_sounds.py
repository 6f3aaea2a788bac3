"""Sounds that no caption covers: named once their window's captions are final, told, kept, and read by questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from af3stream.config import Config
from af3stream.engine.captioning import NamedSound
from af3stream.engine.contract import Embeddings
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import AnswerJob, ExtendJob, SoundJob
from af3stream.engine.scripted import ScriptedEngine, ScriptedSounds
from af3stream.engine.worker import Worker
from af3stream.journal.records import EventRecord, Record
from af3stream.metrics import Metrics
from af3stream.models.card import Notes
from af3stream.protocol import messages as m
from af3stream.session.session import Session
from af3stream.session.sound_track import MOST_AFTER_RESTART, bracketed
from tests.audio.audio_scenes import scene_vad
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation, pcm
from tests.session.test_restore import recovered, run
from tests.session.test_uncaptioned import EAGER, Deaf

BELL = NamedSound("The sound of a bell.", 0.9)
MUSIC = VOICE * 4 + SILENCE  # what the captioner hears no words in
SCENE = SENTENCE + MUSIC + SENTENCE
START = m.Start(mode="everything", interims=False)


def naming(heard: NamedSound = BELL) -> Deaf:
    engine = Deaf()
    engine.sounds = ScriptedSounds(heard)
    return engine


def talking(heard: NamedSound = BELL, start: m.Start = START) -> Conversation:
    return Conversation(start, engine=naming(heard), notes="all", frames="uncaptioned", audio=EAGER)


def test_a_sound_without_a_caption_is_told_with_its_place() -> None:
    talk = talking()
    talk.hear(SCENE)
    assert talk.of(m.Sound) == [m.Sound("[bell]", 1.76, 6.24)]
    (job,) = talk.asked_of_engine(SoundJob)
    assert (job.start, job.end, job.frames) == (28_160, 99_840, (0, 112))


def test_questions_read_a_sound_like_a_caption_of_its_window() -> None:
    talk = talking()
    talk.hear(SCENE)
    assert talk.ask().text == "What? <- [0:00] word1 word2. | 4.48s | [0:01] [bell] | [0:06] word1 word2."


def test_a_window_is_read_once_after_its_sounds_are_named() -> None:
    talk = talking()
    talk.working = False
    talk.hear(SCENE)
    for _ in range(20):
        talk.work_once()
    reading = talk.asked_of_engine(ExtendJob)
    assert [len(job.parts) for job in reading] == sorted({len(job.parts) for job in reading})
    assert "[bell]" in str(reading[-1].parts) and not any(job.rebuild for job in reading)


def test_only_the_hole_between_captions_is_asked_about() -> None:
    talk = Conversation(START, engine=naming(), notes="all", frames="uncaptioned")
    talk.hear(SENTENCE + MUSIC + SENTENCE)
    talk.end()
    (job,) = talk.asked_of_engine(SoundJob)
    first, second = talk.finals[0], talk.finals[-1]
    assert talk.of(m.Sound) == [m.Sound("[bell]", first.end, second.start)]
    assert job.frames == (first.end * 16_000 // 640, second.start * 16_000 // 640)


@pytest.mark.parametrize("notes", ["forgotten", "all"])
def test_speech_whose_caption_is_not_there_yet_is_no_sound(notes: Notes) -> None:
    engine = ScriptedEngine(window_s=5.0)
    engine.sounds = ScriptedSounds(BELL)
    talk = Conversation(START, engine=engine, notes=notes)
    talk.hear(SENTENCE * 2 + VOICE * 6 + SILENCE)
    windows = talk.of(m.Window)
    assert any(window.start < said.start < window.end < said.end for window in windows for said in talk.finals)
    talk.end()
    assert talk.asked_of_engine(SoundJob) == []


@pytest.mark.parametrize(
    "heard", [NamedSound("The sound of a bell.", 0.4), NamedSound("Somebody is speaking.", 0.9), NamedSound("", 0.9)]
)
def test_nothing_is_told_if_the_model_is_not_sure_or_hears_no_sound(heard: NamedSound) -> None:
    talk = talking(heard)
    talk.hear(SCENE)
    assert len(talk.asked_of_engine(SoundJob)) == 1 and talk.of(m.Sound) == []
    assert "bell" not in talk.ask().text


def test_nothing_is_asked_in_the_mode_speech() -> None:
    talk = talking(start=m.Start(mode="speech"))
    talk.hear(SCENE)
    assert talk.asked_of_engine(SoundJob) == [] and talk.of(m.Sound) == []


def test_nothing_is_asked_of_a_checkpoint_that_has_not_learned_it() -> None:
    talk = Conversation(START, engine=Deaf(), notes="all", frames="uncaptioned", audio=EAGER)
    talk.hear(SCENE)
    assert talk.asked_of_engine(SoundJob) == [] and len(talk.of(m.Window)) == 3


def test_the_end_waits_for_the_name_of_the_last_sound() -> None:
    talk = talking()
    talk.hear(SENTENCE + MUSIC)
    talk.end()
    told = [type(message) for message in talk.said if isinstance(message, m.Sound | m.Ended)]
    assert told == [m.Sound, m.Ended]


class Failing(ScriptedSounds):
    """Hears nothing, and fails."""

    def name(self, embeddings: Embeddings, first: int, last: int) -> Iterator[NamedSound | None]:
        raise RuntimeError


def test_a_sound_that_cannot_be_named_is_left_out_and_its_window_is_read() -> None:
    talk = talking()
    talk.engine.sounds = Failing(BELL)
    talk.hear(SCENE)
    assert talk.of(m.Sound) == [] and talk.of(m.Error) == []
    assert talk.ask().text == "What? <- [0:00] word1 word2. | 4.48s | [0:06] word1 word2."


# ---- after a restart -------------------------------------------------------------------------------------------------


def session(engine: ScriptedEngine, records: Sequence[Record] = ()) -> Session:
    """A session whose journal has these records."""
    audio = [record for record in records if not isinstance(record, EventRecord)]
    with scene_vad():
        return Session(
            "s",
            START,
            config=Config(audio=EAGER),
            facts=facts_of(engine, "all", "uncaptioned"),
            metrics=Metrics(),
            recorded=lambda frame: (record for record in audio if record.end > frame),
        )


def without_sounds(records: Sequence[Record]) -> list[Record]:
    """What the journal of a session without names for sounds has."""
    kinds = (b'"type":"sound"', b'"type":"named"')
    return [r for r in records if not (isinstance(r, EventRecord) and any(kind in r.message for kind in kinds))]


def heard(scene: str) -> tuple[list[Record], list[m.ServerMessage]]:
    """What the journal keeps of a session that hears a scene, and what the client was told."""
    engine, records = naming(), list[Record]()
    first, speech = session(engine), pcm(scene)
    for start in range(0, len(speech) // 2, 16_000):
        first.receive(m.Audio(start, speech[2 * start : 2 * start + 32_000]), 0.0)
    first.receive(m.Flush("f"), 0.0)
    return records, run(first, Worker(engine), records)


def test_a_sound_is_kept_and_told_again_to_a_client_that_missed_it() -> None:
    records, told = heard(SCENE)
    (sound,) = (message for message in told if isinstance(message, m.Sound))
    second = session(naming())
    second.restore(recovered(records, joined=True))
    assert second.take_jobs() == []
    assert sound in second.greet(last_event=1)
    second.receive(m.Ask("q", "What?"), 0.0)
    (answer,) = (job for job in second.take_jobs() if isinstance(job, AnswerJob))
    assert "[0:01] [bell]" in str(answer.parts)


def test_events_have_no_hole_where_a_sound_was_told() -> None:
    _, told = heard(SCENE)
    assert [message.event for message in told if isinstance(message, m.Caption)] == [1, 2]


def test_a_sound_that_was_not_named_before_the_restart_is_named_after_it() -> None:
    records, _ = heard(SCENE)
    engine, kept = naming(), without_sounds(records)
    second = session(engine, kept)
    second.restore(recovered(kept, joined=True))
    told = run(second, Worker(engine), [])
    assert [message for message in told if isinstance(message, m.Sound)] == [m.Sound("[bell]", 1.76, 6.24)]


def test_of_an_older_journal_only_the_newest_sounds_are_named() -> None:
    records, _ = heard((SENTENCE + MUSIC) * 6)
    second = session(naming())
    second.restore(recovered(without_sounds(records), joined=True))
    jobs = [job for job in second.take_jobs() if isinstance(job, SoundJob)]
    assert [job.window for job in jobs] == [3, 5, 7, 9] and len(jobs) == MOST_AFTER_RESTART


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "caption"),
    [
        ("The sound of a bell.", "[bell]"),
        ("The sound of applause.", "[applause]"),
        ("It is a cash register.", "[cash register]"),
        ("A phone ringing.", "[phone ringing]"),
        ("Music: a piano is playing.", "[music]"),
        ("Somebody is speaking.", None),
        ("It is somebody's voice.", None),
        ("Nothing is heard, it is silent.", None),
        ("The sound of the wind in the trees and of birds.", None),
        ("<|im_end|>", None),
        ("", None),
    ],
)
def test_a_reply_becomes_a_short_name_in_brackets_or_nothing(reply: str, caption: str | None) -> None:
    assert bracketed(reply) == caption
