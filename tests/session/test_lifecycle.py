"""The states of a session: one table, which the code goes by and the docs show."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import BadEnd, BadFormat, NoSession, Refusal
from af3stream.journal.records import EventRecord
from af3stream.protocol import messages as m
from af3stream.session.lifecycle import TRANSITIONS, Effect, Event, State, markdown, transition
from tests.session.conversation import SENTENCE, VOICE, Conversation, pcm
from tests.session.test_restore import new_session

DOCS = Path(__file__).parents[2] / "docs" / "architecture.md"


def in_state(state: State) -> Conversation:
    """A conversation in a state; in the states that wait for something, the engine does not work."""
    talk = Conversation()
    talk.hear(SENTENCE)
    if state in (State.ENDING, State.DRAINING):
        talk.working = False
        talk.hear(VOICE)
    if state in (State.ENDING, State.ENDED):
        talk.end()
    if state in (State.DRAINING, State.DRAINED):
        talk.session.drain(talk.now)
        talk.pass_time(0)
    assert talk.session.state is state
    return talk


def messages_of(event: Event, talk: Conversation) -> list[m.ClientMessage]:
    """The client's messages that are an event; no other has any."""
    found: dict[Event, list[m.ClientMessage]] = {
        Event.AUDIO: [m.Audio(talk.sent, pcm(VOICE)), m.Gap(talk.sent, 9)],
        Event.REQUEST: [
            m.Ask("q", "What?"),
            m.Cancel("q"),
            m.Watch("w", "Who?", every_s=99),
            m.Unwatch("w"),
            m.Flush("f"),
        ],
        Event.END: [m.End(talk.sent)],
        Event.WRONG_END: [m.End(talk.sent + 1)],
        Event.START: [m.Start()],
    }
    return found.get(event, [])


def test_the_docs_show_the_table() -> None:
    assert markdown() in DOCS.read_text(), f"put this table into {DOCS.name}, under Session states:\n\n{markdown()}"


def test_every_event_has_an_effect_in_every_state() -> None:
    assert set(TRANSITIONS) == set(product(State, Event))


def test_an_effect_that_refuses_changes_no_state() -> None:
    refusals = (Effect.REFUSE, Effect.REFUSE_TOTAL, Effect.REFUSE_START, Effect.IGNORE)
    assert all(after is state for (state, _), (effect, after) in TRANSITIONS.items() if effect in refusals)


@pytest.mark.parametrize(
    ("state", "event"), [key for key, (effect, _) in TRANSITIONS.items() if effect is Effect.REFUSE]
)
def test_an_illegal_event_raises_an_error_that_names_state_and_event(state: State, event: Event) -> None:
    with pytest.raises(NoSession) as refused:
        transition(state, event)
    assert f"is {state.value} " in str(refused.value)
    assert event.value.replace("`", "") in str(refused.value)


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_a_session_goes_by_the_table(state: State, event: Event) -> None:
    effect, _ = TRANSITIONS[state, event]
    refusals: dict[Effect, type[Refusal]] = {
        Effect.REFUSE: NoSession,
        Effect.REFUSE_TOTAL: BadEnd,
        Effect.REFUSE_START: NoSession,
    }
    talk = in_state(state)
    for message in messages_of(event, talk):
        received = talk.session.greet()[0].received  # type: ignore[union-attr]
        if refusal := refusals.get(effect):
            with pytest.raises(refusal):
                talk.tell(message)
            assert talk.session.state is state
        else:
            talk.tell(message)
        taken = talk.session.greet()[0].received != received  # type: ignore[union-attr]
        assert taken == (effect is Effect.TAKE and event is Event.AUDIO and isinstance(message, m.Audio))
        talk.sent += (len(message.pcm) // 2) if taken and isinstance(message, m.Audio) else 0
        if event is Event.AUDIO:
            break


@pytest.mark.parametrize("state", [State.OPEN, State.ENDING, State.DRAINING, State.DRAINED])
def test_a_start_with_another_format_is_refused_for_the_format(state: State) -> None:
    with pytest.raises(BadFormat):
        in_state(state).tell(m.Start(rate=8_000))


@pytest.mark.parametrize("state", [State.ENDING, State.ENDED, State.DRAINING, State.DRAINED])
def test_draining_changes_only_an_open_session(state: State) -> None:
    talk = in_state(state)
    talk.session.drain(talk.now)
    assert talk.session.state is state


def test_a_question_in_a_drained_session_is_answered() -> None:
    talk = in_state(State.DRAINED)
    talk.working = False
    talk.tell(m.Ask("q", "What?"))
    assert talk.session.state is State.DRAINING and not talk.session.over
    talk.work()
    assert [answer.id for answer in talk.of(m.Answer)] == ["q"]
    assert talk.session.state is State.DRAINED and talk.session.over


def test_a_question_that_arrives_while_the_last_messages_of_a_drained_session_wait_for_the_disk_is_answered() -> None:
    engine = ScriptedEngine()
    session, worker, speech = new_session(engine), Worker(engine), pcm(SENTENCE)

    def work() -> int:
        """Do all jobs; returns the number of the newest record."""
        while jobs := session.take_jobs():
            for job in jobs:
                worker.submit("s", job, lambda job, result, done: session.complete(job, result, done, 0.0))
            worker.run_all()
        return max(record.number for record in session.take_records() if isinstance(record, EventRecord))

    session.receive(m.Audio(0, speech), 0.0)
    session.drain(0.0)
    caption = work()
    session.committed(len(speech) // 2, 0, 0.0)
    assert session.state is State.DRAINED and not session.over  # its caption is not durable
    session.receive(m.Ask("q", "What?"), 0.0)
    session.committed(len(speech) // 2, caption, 0.0)
    assert not session.over
    session.committed(len(speech) // 2, work(), 0.0)
    assert [message.id for message in session.take_messages() if isinstance(message, m.Answer)] == ["q"]
    assert session.over
