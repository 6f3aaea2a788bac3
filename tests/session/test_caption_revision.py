"""A second pass over a closed window corrects its captions: what is told, what questions read, what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count

import numpy as np
import pytest

from af3stream.audio.events import Window
from af3stream.config import CaptionsConfig
from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.contract import Text
from af3stream.engine.jobs import AnswerJob, EncodeJob, Job, ReviseJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.journal.records import EventRecord, Record
from af3stream.protocol import messages as m
from af3stream.protocol.features import FEATURES, restrict
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.session.caption_line import CaptionLine
from af3stream.session.caption_revision import MOST_AFTER_RESTART, CaptionRevision, distribute
from af3stream.session.event_log import EventLog, decode_event
from af3stream.session.session import Session
from tests.session.conversation import SENTENCE, SILENCE, Conversation, pcm
from tests.session.test_restore import new_session, recovered

ONE, SEVERAL = SENTENCE + SILENCE * 2, SENTENCE * 3 + SILENCE * 2
CORRECTED = "caption number one, caption number two: caption number three."


class HearsBetterTogether(ScriptedEngine):
    """Says "Caption 1.", "Caption number 2." and so on of utterances, and something else of a window.

    Attributes:
        together: what it says of a window.
    """

    def __init__(self, together: str = CORRECTED) -> None:
        super().__init__()
        numbers = chain(("one", "two", "three"), map(str, count(4)))
        self.together = together

        def hear(request: CaptionRequest) -> Hypothesis:
            window = len(request.samples) > 2 * 16_000
            return Hypothesis(self.together if window else f"Caption number {next(numbers)}.")

        self.captioner.hear = hear  # type: ignore[method-assign]
        self.captioner.revises = True


def listening(together: str = CORRECTED, **options: object) -> Conversation:
    return Conversation(m.Start(interims=False), engine=HearsBetterTogether(together), notes="all", **options)  # type: ignore[arg-type]


# ---- whose word is whose ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "revised", "shares"),
    [
        pytest.param(["But the evidence is we.", "The exam."], "But the evidence is weak. The exam.",
                     ["But the evidence is weak.", "The exam."], id="replaced"),
        pytest.param(["First sun.", "Bees know."], "First, the sun. Bees know.",
                     ["First, the sun.", "Bees know."], id="put in"),
        pytest.param(["On Monday.", "think we should."], "On Monday. I think we should.",
                     ["On Monday.", "I think we should."], id="put in before a sentence"),
        pytest.param(["Well, the the bus", "is late."], "Well, the bus is late.",
                     ["Well, the bus", "is late."], id="left out"),
        pytest.param(["Good morning.", "Mm."], "Good morning.", ["Good morning.", ""], id="nothing left"),
        pytest.param(["one two three", "four five six"], "Thank you.", ["one two three", "four five six"],
                     id="another text"),
        pytest.param(["one two", "three"], "", ["one two", "three"], id="no words"),
    ],
)  # fmt: skip
def test_words_of_a_second_pass_are_shared_out(texts: list[str], revised: str, shares: list[str]) -> None:
    assert distribute(texts, revised) == shares


# ---- in a session ----------------------------------------------------------------------------------------------------


def test_a_closed_window_with_several_captions_is_heard_once_more_and_what_changed_is_told() -> None:
    talk = listening("Caption number one. Caption number too? Caption number three.")
    talk.hear(SEVERAL)
    talk.tell(m.Flush("f"))
    (job,) = talk.asked_of_engine(ReviseJob)
    first, last = talk.finals[0], talk.finals[-1]
    assert len(job.samples) == round((last.end - first.start) * 16_000)
    second = talk.finals[1]
    assert talk.of(m.CaptionUpdate) == [m.CaptionUpdate(1, "Caption number too?", second.start, second.end)]


def test_a_window_with_one_caption_is_not_heard_again() -> None:
    talk = listening()
    talk.hear(ONE)
    talk.tell(m.Flush("f"))
    assert talk.finals and not talk.asked_of_engine(ReviseJob)


def test_questions_read_the_corrected_words() -> None:
    talk = listening()
    talk.hear(SEVERAL)
    talk.tell(m.Flush("f"))
    assert "caption number one, [0:01] caption number two: [0:03] caption number three." in talk.ask().text


def test_a_question_does_not_wait_for_a_second_pass() -> None:
    talk = listening()
    talk.hear(SEVERAL)
    talk.working = False
    talk.tell(m.Flush("f"))
    while not talk.asked_of_engine(ReviseJob):
        talk.work_once()
    talk.tell(m.Ask("q", "What?"))
    talk.work_once()
    assert not talk.of(m.CaptionUpdate) or talk.of(m.Answer)
    talk.work()
    assert talk.of(m.Answer) and talk.of(m.CaptionUpdate)


def test_the_end_waits_for_every_correction() -> None:
    talk = listening()
    talk.hear(SEVERAL)
    told = talk.end()
    assert [type(message) for message in told[-1:]] == [m.Ended]
    assert {message.utterance for message in told if isinstance(message, m.CaptionUpdate)} == {0, 1, 2}


def test_a_caption_with_a_speaker_keeps_its_words_if_a_second_pass_has_none() -> None:
    revision = CaptionRevision(enabled=True, max_tokens=99)
    samples = np.zeros(6 * 16_000, np.float32)
    revision.closed(Window(0, 0, len(samples), samples))
    words = ("Caption number one.", "Caption number two.", "Yes.")
    lines = [CaptionLine(i, i * 16_000, (i + 1) * 16_000, text, speaker=i + 1) for i, text in enumerate(words)]
    job = revision.next_job(lines, len(samples) + 1)
    assert job is not None
    assert revision.revised(job, Hypothesis("Caption number one. Caption number too."), lines) == [
        CaptionLine(1, 16_000, 32_000, "Caption number too.", speaker=2)
    ]


def test_a_second_pass_keeps_what_was_corrected_while_it_was_on_its_way() -> None:
    revision = CaptionRevision(enabled=True, max_tokens=99)
    samples = np.zeros(6 * 16_000, np.float32)
    revision.closed(Window(0, 0, len(samples), samples))
    words = ("Caption number one.", "Caption number two.", "Caption number three.")
    lines = [CaptionLine(i, i * 16_000, (i + 1) * 16_000, text, speaker=1) for i, text in enumerate(words)]
    job = revision.next_job(lines, len(samples) + 1)
    assert job is not None
    lines[1] = replace(lines[1], speaker=2)
    lines[2] = replace(lines[2], text="Leyenda número tres.", language="es")
    heard = Hypothesis("Caption number one. Caption number too. Caption number tree.")
    assert revision.revised(job, heard, lines) == [CaptionLine(1, 16_000, 32_000, "Caption number too.", speaker=2)]


def test_a_caption_that_a_second_pass_has_no_words_for_is_taken_back() -> None:
    talk = listening("Caption number one. Caption number two.")
    talk.hear(SEVERAL)
    talk.tell(m.Flush("f"))
    assert [(update.utterance, update.text) for update in talk.of(m.CaptionUpdate)] == [(2, "")]
    assert "three" not in talk.ask().text


def test_there_is_no_second_pass_where_it_is_switched_off() -> None:
    talk = listening(captions=CaptionsConfig(second_pass=False))
    talk.hear(SEVERAL)
    talk.end()
    assert talk.asked_of_engine(EncodeJob) and not talk.asked_of_engine(ReviseJob)


# ---- kept, and told again --------------------------------------------------------------------------------------------


def final(utterance: int) -> m.Caption:
    return m.Caption(utterance, f"heard {utterance}", 0.0, 1.0, final=True)


def told(log: EventLog) -> Iterator[m.ServerMessage]:
    """What may be told once everything is durable."""
    records = log.take_records()
    log.committed(0, len(records) and max(getattr(record, "number", 0) for record in records))
    return iter(log.take_messages())


def test_an_update_is_kept_without_a_number_and_told_again_after_the_newest_event_that_was_seen() -> None:
    log = EventLog(journaled=True)
    update = m.CaptionUpdate(0, "said", 0.0, 1.0)
    for message in (final(0), final(1), update, final(2)):
        log.tell(message)
    assert [getattr(message, "event", None) for message in told(log)] == [1, 2, None, 3]
    assert log.last_event == 3
    for seen, again in ((0, 4), (1, 3), (2, 2), (3, 0)):
        assert len(log.since(seen)) == again
    assert update in log.since(2) and update not in log.since(3)


def test_an_update_is_told_when_it_is_durable_and_comes_back_from_the_journal() -> None:
    log = EventLog(journaled=True)
    for message in (final(0), m.CaptionUpdate(0, "said", 0.0, 1.0)):
        log.tell(message)
    assert not log.take_messages()
    records = log.take_records()
    restored = EventLog(journaled=True)
    restored.restore(0, [(record.number, decode_event(record)) for record in records])  # type: ignore[union-attr, arg-type]
    assert restored.since(0) == [
        m.Caption(0, "heard 0", 0.0, 1.0, final=True, event=1),
        m.CaptionUpdate(0, "said", 0.0, 1.0),
    ]
    assert restored.last_event == 1


def test_a_client_that_does_not_know_updates_is_sent_none() -> None:
    update = m.CaptionUpdate(0, "said", 0.0, 1.0)
    assert restrict(update, FEATURES) == update
    assert restrict(update, ()) is None


def test_final_captions_have_their_newest_words() -> None:
    captions = FinalCaptions()
    updates = [m.CaptionUpdate(utterance, text, 0.0, 1.0) for utterance, text in ((1, "one"), (1, "two"), (7, "?"))]
    for message in (final(0), final(1), *updates):
        captions.add(message)
    assert [caption.text for caption in captions] == ["heard 0", "two"]


# ---- after a restart -------------------------------------------------------------------------------------------------


def restarted(records: list[Record], together: str = CORRECTED) -> tuple[Session, list[Job]]:
    """The session in a server that was started again, and what it asks of the engine at once."""
    session = journaled(together)
    session.restore(recovered(records, joined=False))
    return session, session.take_jobs()


def journaled(together: str = CORRECTED) -> Session:
    return new_session(HearsBetterTogether(together))


def heard(session: Session, records: list[Record], *, revise: bool) -> list[m.ServerMessage]:
    """Speak a window and have it captioned; ``revise``: up to its second pass."""
    worker, told = Worker(HearsBetterTogether(CORRECTED)), list[m.ServerMessage]()
    worker.open("s", session.audio_source, session.note_resident)
    speech = pcm(SEVERAL)
    session.receive(m.Audio(0, speech), 0.0)
    session.receive(m.Flush("f"), 0.0)
    while jobs := [job for job in session.take_jobs() if revise or not isinstance(job, ReviseJob)]:
        for job in jobs:
            worker.submit("s", job, lambda job, result, done: session.complete(job, result, done, 0.0))
        worker.run_all()
    records += session.take_records()
    session.committed(len(speech) // 2, max(r.number for r in records if isinstance(r, EventRecord)), 0.0)
    told += session.take_messages()
    return told


def test_a_window_that_was_revised_before_a_restart_is_not_heard_again_and_has_its_words() -> None:
    records: list[Record] = []
    told = heard(journaled(), records, revise=True)
    session, jobs = restarted(records)
    assert not any(isinstance(job, ReviseJob) for job in jobs)
    updates = [message for message in told if isinstance(message, m.CaptionUpdate)]
    assert len(updates) == 3
    session.receive(m.Ask("q", "What?"), 0.0)
    (answer,) = (job for job in session.take_jobs() if isinstance(job, AnswerJob))
    (notes,) = (part.text for part in answer.parts if isinstance(part, Text))
    assert [line.partition("] ")[2] for line in notes.splitlines()] == [update.text for update in updates]


def test_a_window_whose_second_pass_a_kill_cut_short_is_heard_again() -> None:
    records: list[Record] = []
    heard(journaled(), records, revise=False)
    _, jobs = restarted(records)
    assert sum(isinstance(job, ReviseJob) for job in jobs) == 1


def test_a_journal_that_does_not_tell_what_was_revised_costs_a_few_windows_at_most() -> None:
    revision = CaptionRevision(enabled=True, max_tokens=9)
    for index in range(100):
        revision.closed(Window(index, index * 9, index * 9 + 9, np.zeros(9, np.float32)))
    revision.skip(-1)
    assert revision.oldest_pending and revision.oldest_pending.index == 100 - MOST_AFTER_RESTART
