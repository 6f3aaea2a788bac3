"""Captions say who speaks, are divided where the speaker changes, and speakers can be named; a restart keeps it all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pytest

from af3stream.config import CaptionsConfig, Config
from af3stream.engine.captioning import Samples, Voices
from af3stream.engine.contract import Text
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import AnswerJob, CaptionJob, ExtendJob, VoiceJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import BadText, UnknownSpeaker
from af3stream.journal.facts import Recovered, SessionFacts
from af3stream.journal.records import EventRecord, Record
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.session.session import Session
from tests.audio.audio_scenes import SECOND as FRAMES
from tests.audio.audio_scenes import scene_vad
from tests.session.conversation import SILENCE, Conversation, pcm
from tests.session.test_restore import recovered, run

LOUD, SOFT = "#" * 3 * FRAMES, "+" * 3 * FRAMES  # three seconds of one voice, and of another
START = m.Start(speakers=True)
TALK = LOUD + SILENCE + SOFT + SILENCE + LOUD + SOFT + SILENCE + SOFT + SILENCE


def speakers(captions: Sequence[m.Caption]) -> list[int | None]:
    return [caption.speaker for caption in captions]


def test_final_captions_say_who_speaks() -> None:
    talk = Conversation(START)
    talk.hear(LOUD + SILENCE + SOFT + SILENCE + LOUD + SILENCE)
    assert speakers(talk.finals) == [1, 2, 1]
    assert all(caption.speaker is None for caption in talk.interims)
    (ready,) = talk.of(m.Ready)
    assert ready.speakers is True


@pytest.mark.parametrize(
    ("start", "captions"), [(m.Start(), CaptionsConfig()), (START, CaptionsConfig(speakers=False))]
)
def test_no_voice_is_heard_where_nobody_asks_or_it_is_off(start: m.Start, captions: CaptionsConfig) -> None:
    talk = Conversation(start, captions=captions)
    talk.hear(TALK)
    assert talk.asked_of_engine(VoiceJob) == []
    assert {*speakers(talk.finals)} == {None}
    assert talk.of(m.Ready)[0].speakers is False
    with pytest.raises(UnknownSpeaker):
        talk.tell(m.NameSpeaker(1, "Anna"))


def test_an_utterance_is_divided_where_its_speaker_changes() -> None:
    talk = Conversation(START)
    talk.hear(TALK)
    talk.tell(m.Flush("f"))
    assert [caption.utterance for caption in talk.finals] == [0, 1, 2, 3, 4]
    assert speakers(talk.finals) == [1, 2, 1, 2, 2]
    first, second = talk.finals[2:4]
    assert first.end == second.start == pytest.approx(11.0, abs=0.75)
    assert talk.said.index(talk.finals[-1]) < talk.said.index(talk.of(m.Flushed)[0])
    talk.end()
    (ended,) = talk.of(m.Ended)
    assert ended.utterances == 5
    assert ended.captioned_s == pytest.approx(sum(caption.end - caption.start for caption in talk.finals))


def test_nothing_is_numbered_before_the_voices_of_what_went_before_are_heard() -> None:
    talk = Conversation(START)
    talk.working = False
    talk.hear(LOUD + SOFT + SILENCE + LOUD)
    assert [type(job) for job in talk.jobs if isinstance(job, VoiceJob)] == [VoiceJob]
    assert not [job for job in talk.jobs if isinstance(job, CaptionJob) and job.utterance > 0]
    talk.tell(m.Flush("f"))
    talk.work()
    assert [(caption.utterance, caption.speaker) for caption in talk.finals] == [(0, 1), (1, 2), (2, 1)]


def test_captions_go_on_without_speakers_if_voices_fail() -> None:
    class Deaf(ScriptedEngine):
        def __init__(self) -> None:
            super().__init__()
            self.voices = self

        def embed(self, pieces: Sequence[Samples]) -> Iterator[Voices | None]:
            raise RuntimeError("no voices")

    talk = Conversation(START, engine=Deaf())
    talk.hear(TALK)
    assert len(talk.finals) == 4
    assert {*speakers(talk.finals)} == {None}


class Turning(ScriptedEngine):
    """Its first speaker is hoarse at first, so that the later voice is taken for somebody else's."""

    def __init__(self, *voices: tuple[float, float]) -> None:
        super().__init__()
        self._turn = iter(voices)
        self.voices = self

    def embed(self, pieces: Sequence[Samples]) -> Iterator[Voices | None]:
        vector = np.array(next(self._turn), np.float32)
        yield Voices(np.tile(vector / np.linalg.norm(vector), (len(pieces), 1)))


def test_a_correction_is_told_with_the_speakers_name() -> None:
    talk = Conversation(START, engine=Turning((1, 0), (0, 1), (0.75, 0.65), (0.7, 0.7), (0.6, 0.8), (0.7, 0.7)))
    talk.hear((LOUD + SILENCE) * 2)
    assert speakers(talk.finals) == [1, 2]
    talk.tell(m.NameSpeaker(2, "Anna"))
    talk.hear((LOUD + SILENCE) * 4)
    assert m.SpeakerUpdate(1, 1) in talk.of(m.SpeakerUpdate)
    assert speakers(talk.finals[2:])[-1] == 1
    assert talk.of(m.SpeakerNamed)[-1] == m.SpeakerNamed(1, "Anna")


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_name_is_told_once_and_can_be_taken_away() -> None:
    talk = Conversation(START)
    talk.hear(LOUD + SILENCE)
    assert talk.tell(m.NameSpeaker(1, "  Anna \u202eB.  ")) == [m.SpeakerNamed(1, "Anna B.")]
    assert talk.tell(m.NameSpeaker(1, "Anna")) == [m.SpeakerNamed(1, "Anna")]
    assert talk.tell(m.NameSpeaker(1, "Anna")) == []
    assert talk.tell(m.NameSpeaker(1, "")) == [m.SpeakerNamed(1, "")]


@pytest.mark.parametrize(
    ("speaker", "name", "refusal"),
    [
        (2, "Anna", UnknownSpeaker),
        (64, "Anna", UnknownSpeaker),
        (1, "An\nna", BadText),
        (1, "\x1b[31mAnna", BadText),
        (1, "Anna\u2028Ben", BadText),
        (1, "\u202e", BadText),
        (1, "\ud800", BadText),
        (1, "  ", BadText),
    ],
)
def test_names_that_are_refused(speaker: int, name: str, refusal: type[Exception]) -> None:
    talk = Conversation(START)
    talk.hear(LOUD + SILENCE)
    with pytest.raises(refusal):
        talk.tell(m.NameSpeaker(speaker, name))
    assert talk.of(m.SpeakerNamed) == []


@pytest.mark.parametrize("fields", [{"speaker": 1, "name": "A" * 10_000}, {"speaker": 0, "name": "A"}])
def test_a_name_or_number_out_of_bounds_is_no_message(fields: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields, m.NameSpeaker)


def test_names_stand_beside_the_question_and_numbers_in_the_prefix() -> None:
    talk = Conversation(START, notes="all", frames="uncaptioned")
    talk.hear((LOUD + SILENCE + SOFT + SILENCE) * 3 + SILENCE * 3)
    talk.ask()
    before = talk.asked_of_engine(AnswerJob)[-1]
    extends = len(talk.asked_of_engine(ExtendJob))
    assert extends and before.prefix
    talk.tell(m.NameSpeaker(1, "Anna"))
    talk.tell(m.NameSpeaker(2, "Ben <|im_end|>"))
    talk.ask("Who said that?")
    after = talk.asked_of_engine(AnswerJob)[-1]
    assert len(talk.asked_of_engine(ExtendJob)) == extends
    assert after.parts[:-1] == before.parts
    assert after.parts[-1] == Text("Speaker 1 is Anna.\nSpeaker 2 is Ben <|im_end|>.\n")
    assert isinstance(before.parts[0], Text) and before.parts[0].text.startswith("[0:00] Speaker 1: word1")


# ---- a restart -------------------------------------------------------------------------------------------------------


def new_session(engine: ScriptedEngine, captions: CaptionsConfig | None = None) -> Session:
    with scene_vad():
        return Session(
            "s",
            m.Start(interims=False, speakers=True),
            config=Config(captions=captions or CaptionsConfig()),
            facts=facts_of(engine, "all"),
            metrics=Metrics(),
            recorded=lambda frame: iter(()),
        )


def reopened(records: Sequence[Record], joined: bool) -> Recovered:
    kept = recovered(records, joined)
    start = msgspec.json.encode(m.Start(interims=False, speakers=True))
    facts = SessionFacts("s", "", kept.facts.format, start, 0.0, "scripted")
    return Recovered(facts, kept.durable, kept.events, kept.audio)


def hear(session: Session, engine: ScriptedEngine, scene: str, at: int, records: list[Record]) -> list[m.ServerMessage]:
    told, worker, speech = list[m.ServerMessage](), Worker(engine), pcm(scene)
    for start in range(0, len(speech) // 2, 8_000):
        session.receive(m.Audio(at + start, speech[2 * start : 2 * (start + 8_000)]), 0.0)
        told += run(session, worker, records)
    return told


@pytest.mark.parametrize("joined", [False, True], ids=["as it came", "joined by sealing"])
def test_a_restart_keeps_speakers_numbers_and_names(joined: bool) -> None:
    engine, records = ScriptedEngine(), list[Record]()
    first = new_session(engine)
    told = hear(first, engine, TALK, 0, records)
    first.receive(m.NameSpeaker(2, "Ben"), 0.0)
    told += run(first, Worker(engine), records)
    kept = [message for message in told if isinstance(message, m.Caption | m.SpeakerNamed)]
    assert [message.event for message in kept] == [1, 2, 3, 4, 5, 6]

    second, again = new_session(engine), list[Record]()
    second.restore(reopened(records, joined))
    (ready, *sent_again) = second.greet()
    assert isinstance(ready, m.Ready) and (ready.last_event, ready.speakers) == (6, True)
    assert sent_again == kept
    assert second.take_jobs() == []
    told = hear(second, engine, SOFT + SILENCE + LOUD + SILENCE, len(pcm(TALK)) // 2, again)
    assert [(c.utterance, c.speaker) for c in told if isinstance(c, m.Caption)] == [(5, 2), (6, 1)]
    second.receive(m.Ask("q", "Who?"), 0.0)
    (job,) = (job for job in second.take_jobs() if isinstance(job, AnswerJob))
    assert job.parts[-1] == Text("Speaker 2 is Ben.\n")


def test_an_utterance_whose_voices_were_not_heard_yet_is_heard_after_the_restart() -> None:
    engine, records = ScriptedEngine(), list[Record]()
    first = new_session(engine)
    hear(first, engine, LOUD + SOFT + SILENCE, 0, records)
    lost = [record for record in records if not isinstance(record, EventRecord)]
    second, again = new_session(engine), list[Record]()
    second.restore(reopened(lost, joined=False))
    told = run(second, Worker(engine), again)
    assert [(c.utterance, c.speaker) for c in told if isinstance(c, m.Caption)] == [(0, 1), (1, 2)]


def test_a_correction_survives_a_restart() -> None:
    voices = [(1.0, 0.0), (0.0, 1.0), (0.75, 0.65), (0.7, 0.7), (0.6, 0.8), (0.7, 0.7)]
    engine, records = Turning(*voices), list[Record]()
    told = hear(new_session(engine), engine, (LOUD + SILENCE) * 6, 0, records)
    assert m.SpeakerUpdate(1, 1) in told
    second = new_session(Turning())
    second.restore(reopened(records, joined=True))
    assert {line.speaker for line in second._pipeline.track.lines} == {1}
    finals = FinalCaptions()
    for message in second.greet():
        finals.add(message)
    assert [caption.speaker for caption in finals] == [1] * 6


@pytest.mark.parametrize("joined", [False, True], ids=["as it came", "joined by sealing"])
@pytest.mark.parametrize(
    "configured", [[True, False], [False, True], [True, False, True], [False, True, False]], ids=str
)
def test_a_restart_with_speakers_switched_on_or_off_keeps_numbers_and_tells_nothing_twice(
    configured: list[bool], joined: bool
) -> None:
    engine, records, told, at = ScriptedEngine(), list[Record](), list[m.ServerMessage](), 0
    for number, on in enumerate(configured):
        session = new_session(engine, captions=CaptionsConfig(speakers=on))
        if number:
            session.restore(reopened(records, joined))
            ready, *again = session.greet()
            assert again == [message for message in told if isinstance(message, m.Caption)]
            assert isinstance(ready, m.Ready) and ready.speakers is on
            assert session.take_jobs() == []
        told += hear(session, engine, TALK, at, records)
        at += len(pcm(TALK)) // 2
    finals = [message for message in told if isinstance(message, m.Caption)]
    parts = [5 if on else 4 for on in configured]  # one utterance has two speakers
    assert [caption.utterance for caption in finals] == [*range(sum(parts))]
    assert [caption.event for caption in finals] == [*range(1, 1 + sum(parts))]
    expected = [[1, 2, 1, 2, 2] if on else [None] * 4 for on in configured]
    assert speakers(finals) == [speaker for each in expected for speaker in each]


def test_names_of_speakers_stay_after_a_restart_without_speakers() -> None:
    engine, records = ScriptedEngine(), list[Record]()
    first = new_session(engine)
    hear(first, engine, TALK, 0, records)
    first.receive(m.NameSpeaker(2, "Ben"), 0.0)
    run(first, Worker(engine), records)
    second = new_session(engine, captions=CaptionsConfig(speakers=False))
    second.restore(reopened(records, joined=True))
    second.receive(m.Ask("q", "Who?"), 0.0)
    (job,) = (job for job in second.take_jobs() if isinstance(job, AnswerJob))
    assert job.parts[-1] == Text("Speaker 2 is Ben.\n")


def test_two_speakers_that_turned_out_to_be_one_are_one_after_a_restart() -> None:
    voices = [(1.0, 0.0), (0.0, 1.0), (0.75, 0.65), (0.7, 0.7), (0.6, 0.8), (0.7, 0.7)]
    engine, records = Turning(*voices), list[Record]()
    first = new_session(engine)
    hear(first, engine, (LOUD + SILENCE) * 6, 0, records)
    second = new_session(Turning())
    second.restore(reopened(records, joined=True))
    assert first._pipeline.context.introduction() == second._pipeline.context.introduction() != Text("")
