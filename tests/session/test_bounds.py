"""The memory of a session is bounded, however long it lasts: history, answers, captions and windows."""

from __future__ import annotations

import pytest

from af3stream.config import QuestionsConfig
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import DataLoss
from af3stream.journal.records import EventRecord, Record
from af3stream.protocol import messages as m
from af3stream.session.event_log import NEWEST_KEPT, EventLog, HistoryEntry, decode_event, read_history
from af3stream.session.exchanges import MOST_EXCHANGES, Exchanges
from tests.session.conversation import SECOND, SENTENCE, SILENCE, Conversation, pcm
from tests.session.test_context_window import EAGER, LONG
from tests.session.test_restore import new_session, recovered, run

EVENTS = 5_000


def caption(number: int) -> m.Caption:
    return m.Caption(number, f"caption {number}", number, number + 1.0, final=True)


def long_session() -> tuple[EventLog, list[Record]]:
    """A log with so many events, all durable, and its records."""
    log = EventLog(journaled=True)
    for number in range(EVENTS):
        log.tell(caption(number))
    records = log.take_records()
    log.committed(0, len(records))
    log.take_messages()
    return log, records


def journal_history(records: list[Record]) -> list[HistoryEntry]:
    return read_history((r.number, decode_event(r)) for r in records if isinstance(r, EventRecord))


def numbers(messages: list[m.ServerMessage]) -> list[int | None]:
    return [message.event for message in messages if isinstance(message, m.Caption | m.Answer | m.WatchHit)]


# ---- history ---------------------------------------------------------------------------------------------------------


def test_the_newest_kept_messages_stay_in_memory() -> None:
    log, _ = long_session()
    assert len(log._history) == NEWEST_KEPT
    assert log.last_event == EVENTS
    assert log.remembers(EVENTS - NEWEST_KEPT)
    assert numbers(log.since(EVENTS - NEWEST_KEPT)) == list(range(EVENTS - NEWEST_KEPT + 1, EVENTS + 1))


def test_older_ones_come_from_the_journal() -> None:
    log, records = long_session()
    assert not log.remembers(10)
    older = journal_history(records)
    assert log.remembers(10, older)
    assert numbers(log.since(10, older)) == list(range(11, EVENTS + 1))


def test_a_client_that_missed_events_which_nobody_has_is_told_data_loss() -> None:
    log, records = long_session()
    oldest = EVENTS - NEWEST_KEPT
    for older in ([], journal_history(records[: oldest - 1])):
        with pytest.raises(DataLoss) as lost:
            log.since(oldest - 1, older)
        assert (lost.value.start, lost.value.end) == (oldest, oldest + 1)


def test_a_dropped_update_is_missed_by_a_client_that_saw_the_event_before_it() -> None:
    log = EventLog(journaled=True)
    for message in (caption(0), m.CaptionUpdate(0, "said", 0.0, 1.0), *(caption(n) for n in range(1, NEWEST_KEPT + 1))):
        log.tell(message)
    log.committed(0, NEWEST_KEPT + 2)
    assert not log.remembers(1) and log.remembers(2)


def test_what_is_not_durable_stays_in_memory() -> None:
    log = EventLog(journaled=True)
    for number in range(EVENTS):
        log.tell(caption(number))
    assert len(log._history) == EVENTS and log.last_event == 0
    log.committed(0, 3_000)
    assert len(log._history) == EVENTS - 3_000 and log.last_event == 3_000
    assert log.remembers(3_000)


def test_a_restored_log_is_bounded_too_and_goes_on_with_the_next_number() -> None:
    _, records = long_session()
    log = EventLog(journaled=True)
    log.restore(0, [(r.number, decode_event(r)) for r in records if isinstance(r, EventRecord)])
    assert len(log._history) == NEWEST_KEPT and log.last_event == EVENTS
    told = log.tell(caption(EVENTS))
    assert numbers([told]) == [EVENTS + 1]


def test_a_session_without_a_journal_keeps_no_history() -> None:
    log = EventLog(journaled=False)
    for number in range(EVENTS):
        log.tell(caption(number))
    log.take_messages()
    assert len(log._history) == 0 and log.since(0) == []


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_the_newest_answers_are_known_and_an_older_id_is_free_again() -> None:
    exchanges = Exchanges()
    for number in range(1, EVENTS + 1):
        exchanges.add(m.Answer(f"q{number}", "So.", 0, 1, 0, 1, "stop", event=number, question="A?"))
    assert len(exchanges) == 2 * MOST_EXCHANGES  # by id, and by event
    assert exchanges.find("q1") is None
    assert (found := exchanges.find(f"q{EVENTS}")) and found.kept


# ---- captions and windows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notes", ["off", "forgotten", "all"])
def test_captions_and_windows_of_a_long_session_are_bounded(notes: str) -> None:
    talk = Conversation(
        engine=ScriptedEngine(window_s=4.0, windows=7),
        notes=notes,  # type: ignore[arg-type]
        audio=EAGER,
        questions=QuestionsConfig(notes_max_tokens=100),
    )
    pipeline = talk.session._pipeline
    most = [0, 0]
    for _ in range(25):
        talk.hear(LONG * 2, block=SECOND)
        most = [max(most[0], len(pipeline.track.lines)), max(most[1], len(pipeline._windows.context._windows))]
    assert len(talk.finals) == 50
    assert most[0] <= 3 and most[1] <= 10
    assert len(pipeline._windows.context._evicted_notes) <= 100


def test_captions_of_windows_that_cannot_be_encoded_are_bounded() -> None:
    engine = ScriptedEngine(window_s=4.0, windows=7)

    def fail(sounds: object) -> None:
        raise RuntimeError("no")

    engine.encode = fail  # type: ignore[method-assign]
    talk = Conversation(engine=engine, audio=EAGER)
    talk.hear(LONG * 20, block=SECOND)
    assert len(talk.finals) == 20
    assert len(talk.session._pipeline.track.lines) <= 3
    assert not talk.session._jobs._failures


def test_silence_after_speech_keeps_nothing() -> None:
    talk = Conversation(audio=EAGER)
    talk.hear(SENTENCE + SILENCE * 10, block=SECOND)
    assert talk.session._pipeline.track.lines == []


def test_windows_of_a_restored_session_that_nobody_asks_are_bounded() -> None:
    engine, records, sent = ScriptedEngine(window_s=4.0, windows=7), list[Record](), 0
    session, worker = new_session(engine, audio=EAGER), Worker(engine)
    for number in range(60):
        if number == 3:
            session = new_session(engine, audio=EAGER)
            session.restore(recovered(records, joined=False))
        session.receive(m.Audio(sent, pcm(LONG)), 0.0)
        sent += len(pcm(LONG)) // 2
        run(session, worker, records)
    assert len(session._pipeline._windows.context._windows) <= 20
    session.receive(m.Ask("q", "What?"), 0.0)
    (answer,) = (message for message in run(session, worker, records) if isinstance(message, m.Answer))
    assert answer.windows <= 20
