"""A session that comes back from the journal is the one that was: the same utterances, words and cuts, told once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest

from af3stream.audio.pcm import AudioFormat
from af3stream.config import AudioConfig, Config
from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.contract import Text, Turn
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import AnswerJob, ExtendJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import UnknownQuestion
from af3stream.journal.facts import Recovered, SessionFacts
from af3stream.journal.records import AudioInput, AudioRecord, EventRecord, GapRecord, Record
from af3stream.metrics import Metrics
from af3stream.models.card import Frames
from af3stream.protocol import messages as m
from af3stream.session.recovery import split
from af3stream.session.session import Session
from tests.session.conversation import SENTENCE, SILENCE, pcm, scene_vad

SECOND = 16_000
SCENE = SILENCE + SENTENCE + SILENCE * 2 + SENTENCE * 2 + SILENCE * 2 + SENTENCE + SILENCE * 2


class DeafToTheFirst(ScriptedEngine):
    """Hears no words in the first utterance, as in a cough."""

    def __init__(self) -> None:
        super().__init__()
        self.captioner.hear = self._hear  # type: ignore[method-assign]
        self.calls = 0

    def _hear(self, request: CaptionRequest) -> Hypothesis:
        self.calls += 1
        return Hypothesis("" if self.calls == 1 else f"{len(request.samples)} samples")


def run(session: Session, worker: Worker, records: list[Record]) -> list[m.ServerMessage]:
    """Carry on what the session wants, with a disk that takes everything at once."""
    worker.open("s", session.audio_source, session.note_resident)
    while jobs := session.take_jobs():
        for job in jobs:
            worker.submit("s", job, lambda job, result, done: session.complete(job, result, done, 0.0))
        worker.run_all()
    records += session.take_records()
    session.committed(
        max((r.end for r in records if not isinstance(r, EventRecord)), default=0),
        max((r.number for r in records if isinstance(r, EventRecord)), default=0),
        0.0,
    )
    return session.take_messages()


def new_session(
    engine: ScriptedEngine, frames: Frames = "all", audio: AudioConfig | None = None, start: m.Start | None = None
) -> Session:
    with scene_vad():
        return Session(
            "s",
            start or m.Start(interims=False),
            config=Config(audio=audio or AudioConfig()),
            facts=facts_of(engine, "all", frames),
            metrics=Metrics(),
            recorded=lambda frame: iter(()),
        )


def hear(session: Session) -> None:
    """Speak the scene, and close what is open."""
    speech = pcm(SCENE)
    for start in range(0, len(speech) // 2, SECOND):
        session.receive(m.Audio(start, speech[2 * start : 2 * (start + SECOND)]), 0.0)
    session.receive(m.Flush("f"), 0.0)


def recovered(records: Sequence[Record], joined: bool) -> Recovered:
    audio: list[AudioInput] = [record for record in records if not isinstance(record, EventRecord)]
    durable = audio[-1].end
    if joined:
        whole = b"".join(record.pcm for record in audio if isinstance(record, AudioRecord))
        bounds = [*range(0, durable, SECOND), durable]
        audio = [AudioRecord(a, whole[2 * a : 2 * b], b - a) for a, b in pairwise(bounds)]
    facts = SessionFacts("s", "", AudioFormat(), msgspec.json.encode(m.Start(interims=False)), 0.0, "scripted")
    return Recovered(facts, durable, [r for r in records if isinstance(r, EventRecord)], iter(audio))


@pytest.mark.parametrize("joined", [False, True], ids=["as it came", "joined by sealing"])
@pytest.mark.parametrize(("flush_at", "flushes"), [(None, 0), (60_000, 1), (77_777, 1), (77_777, 3)])
def test_nothing_is_told_or_captioned_twice(joined: bool, flush_at: int | None, flushes: int) -> None:
    engine, records = DeafToTheFirst(), list[Record]()
    first, worker, said = new_session(engine), Worker(engine), list[m.ServerMessage]()
    speech = pcm(SCENE)
    bounds = sorted({*range(0, len(speech) // 2, 7_000), len(speech) // 2, *([flush_at] if flush_at else [])})
    for start, end in pairwise(bounds):
        for number in range(flushes if start == flush_at else 0):
            first.receive(m.Flush(f"f{number}"), 0.0)
        first.receive(m.Audio(start, speech[2 * start : 2 * end]), 0.0)
        said += run(first, worker, records)
    finals = [message for message in said if isinstance(message, m.Caption)]
    assert len(finals) >= 2

    second, again = new_session(engine), list[Record]()
    calls = engine.calls
    second.restore(recovered(records, joined))
    second.receive(m.Flush("g"), 0.0)
    told = run(second, Worker(engine), again)
    assert [message for message in told if isinstance(message, m.Caption)] == []
    assert engine.calls == calls
    (ready, *kept) = second.greet()
    assert kept == finals
    assert isinstance(ready, m.Ready) and ready.received == len(speech) // 2


def test_an_answer_is_followed_up_after_a_restart() -> None:
    engine, records = ScriptedEngine(), list[Record]()
    first, worker = new_session(engine), Worker(engine)
    hear(first)
    run(first, worker, records)
    first.receive(m.Ask("a", "Who?"), 0.0)
    run(first, worker, records)
    first.receive(m.Ask("b", "And why?", after="a"), 0.0)
    answers = [message for message in run(first, worker, records) if isinstance(message, m.Answer)]

    second = new_session(engine)
    second.restore(recovered(records, joined=False))
    told = [message for message in second.greet() if isinstance(message, m.Answer)]
    assert told[1:] == answers and answers[0].after == told[0].event
    second.receive(m.Ask("c", "And when?", after=answers[0].event), 0.0)
    (job,) = (job for job in second.take_jobs() if isinstance(job, AnswerJob))
    assert job.earlier == (Turn("Who?", told[0].text), Turn("And why?", told[1].text))
    with pytest.raises(UnknownQuestion):
        second.receive(m.Ask("d", "And where?", after=99), 0.0)


def test_a_restored_question_reads_captions_at_once_and_windows_are_read_after_it() -> None:
    engine, records = ScriptedEngine(), list[Record]()
    first = new_session(engine)
    hear(first)
    run(first, Worker(engine), records)
    encoded = engine.counters.sounds_encoded

    second = new_session(engine)
    second.restore(recovered(records, joined=False))
    assert second.take_jobs() == []
    second.receive(m.Ask("q", "What?"), 0.0)
    answer, extend = second.take_jobs()
    assert isinstance(answer, AnswerJob) and all(isinstance(part, Text) for part in answer.parts)
    assert isinstance(extend, ExtendJob) and engine.counters.sounds_encoded == encoded


def test_windows_that_captions_carry_come_back_without_their_samples() -> None:
    engine, records = ScriptedEngine(), list[Record]()
    first = new_session(engine, "uncaptioned")
    hear(first)
    run(first, Worker(engine), records)
    second = new_session(engine, "uncaptioned")
    second.restore(recovered(records, joined=False))
    entries = second._pipeline._windows.context._windows
    assert entries and all(entry.sound is None for entry in entries)
    assert second.take_jobs() == [] and engine.counters.sounds_encoded == 0


def test_a_record_comes_apart_where_a_cut_fell_inside_it() -> None:
    record = AudioRecord(10, bytes(range(20)), 10)
    assert list(split(record, [10, 13, 19, 20, 40], 2)) == [
        AudioRecord(10, bytes(range(6)), 3),
        AudioRecord(13, bytes(range(6, 18)), 6),
        AudioRecord(19, bytes(range(18, 20)), 1),
    ]
    assert list(split(GapRecord(0, 5), [2], 2)) == [GapRecord(0, 2), GapRecord(2, 3)]
    assert list(split(record, [], 2)) == [record]


def test_no_piece_of_a_record_is_empty_however_many_cuts_fell_at_one_offset() -> None:
    record = AudioRecord(10, bytes(range(20)), 10)
    halves = [AudioRecord(10, bytes(range(10)), 5), AudioRecord(15, bytes(range(10, 20)), 5)]
    assert list(split(record, [15, 15, 15], 2)) == halves
    assert list(split(GapRecord(0, 4), [2, 2], 2)) == [GapRecord(0, 2), GapRecord(2, 2)]
    assert list(split(AudioRecord(7, b"", 0), [7, 7], 2)) == []


@pytest.mark.parametrize("joined", [False, True], ids=["as it came", "joined by sealing"])
def test_a_journal_that_holds_a_cut_several_times_and_an_empty_record_is_opened(joined: bool) -> None:
    speech, cuts = pcm(SCENE), [EventRecord(number, b'{"type":"cut","offset":77777}') for number in (1, 2, 3)]
    total = len(speech) // 2
    bounds = [0, 77_777, 100_000, total]
    kept = recovered([*(AudioRecord(a, speech[2 * a : 2 * b], b - a) for a, b in pairwise(bounds)), *cuts], joined)
    audio = list(kept.audio)
    empty = AudioRecord(audio[0].end, b"", 0)
    session = new_session(ScriptedEngine())
    session.restore(Recovered(kept.facts, total, kept.events, iter([audio[0], empty, *audio[1:]])))
    (ready,) = session.greet()
    assert isinstance(ready, m.Ready) and (ready.received, ready.last_event) == (total, 0)


# ---- numbers of events -----------------------------------------------------------------------------------------------


def events(messages: Sequence[m.ServerMessage]) -> list[int | None]:
    return [message.event for message in messages if isinstance(message, m.Caption | m.Answer | m.WatchHit)]


def test_events_are_numbered_without_a_hole_across_flushes_and_a_restart() -> None:
    engine, records, speech = ScriptedEngine(), list[Record](), pcm(SCENE)
    session, worker, said = new_session(engine), Worker(engine), list[m.ServerMessage]()
    for number, start in enumerate(range(0, len(speech) // 2, 20_000)):
        session.receive(m.Flush(f"f{number}"), 0.0)
        session.receive(m.Ask(f"q{number}", "What?"), 0.0)
        session.receive(m.Audio(start, speech[2 * start : 2 * start + 40_000]), 0.0)
        said += run(session, worker, records)
        if number == 4:
            session = new_session(engine)
            session.restore(recovered(records, joined=True))
    (ready, *again) = session.greet()
    assert isinstance(ready, m.Ready)
    assert events(said) == events(again) == list(range(1, ready.last_event + 1))
    assert len(events(said)) > number  # every question, and captions between them


def test_a_cut_is_kept_once_for_each_offset() -> None:
    session, records = new_session(ScriptedEngine()), list[Record]()
    for name in "abc":  # before any audio there is nothing to close
        session.receive(m.Flush(name), 0.0)
    session.receive(m.Audio(0, bytes(2_000)), 0.0)
    for name in "def":
        session.receive(m.Flush(name), 0.0)
    assert [m.Flushed(name, 0 if name < "d" else 1_000) for name in "abcdef"] == [
        message for message in run(session, Worker(ScriptedEngine()), records) if isinstance(message, m.Flushed)
    ]
    assert [r.message for r in records if isinstance(r, EventRecord)] == [b'{"type":"cut","offset":1000}']


def test_flushed_is_told_when_its_cut_is_durable() -> None:
    session = new_session(ScriptedEngine())
    session.receive(m.Audio(0, bytes(2_000)), 0.0)
    session.receive(m.Flush("f"), 0.0)
    session.committed(1_000, 0, 0.0)
    assert not [message for message in session.take_messages() if isinstance(message, m.Flushed)]
    session.committed(1_000, 1, 0.0)
    assert m.Flushed("f", 1_000) in session.take_messages()


def test_a_journal_whose_events_have_holes_goes_on_after_its_newest() -> None:
    speech = pcm(SCENE)
    total = len(speech) // 2
    kept: list[m.Message | bytes] = [
        m.Answer("q1", "Yes.", 0.0, 1.0, 0, 1, "stop", event=1),
        b'{"type":"cut","offset":9}',
        m.Answer("q2", "No.", 0.0, 1.0, 0, 1, "stop", event=3),
        b'{"type":"cut","offset":99}',
    ]
    rows = [EventRecord(i, k if isinstance(k, bytes) else msgspec.json.encode(k)) for i, k in enumerate(kept, start=1)]
    session, records = new_session(ScriptedEngine()), list[Record]()
    records += [AudioRecord(0, speech, total), *rows]
    session.restore(recovered(records, joined=True))
    (ready, second) = session.greet(last_event=1)
    assert isinstance(ready, m.Ready) and ready.last_event == 3 and events([second]) == [3]
    session.receive(m.Ask("q3", "What?"), 0.0)
    said = run(session, Worker(ScriptedEngine()), records)
    told = events(said)
    assert told and told == list(range(4, 4 + len(told)))
    assert [r.number for r in records if isinstance(r, EventRecord)] == list(range(1, 5 + len(told)))
