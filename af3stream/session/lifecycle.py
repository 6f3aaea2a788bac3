"""The states of a session, and the one table of what each event does in each of them.

`Session` goes by `transition`. The table in docs/architecture.md is the text that `markdown` returns.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from af3stream.errors import NoSession
from af3stream.protocol import messages as m


class State(Enum):
    """A session's state."""

    OPEN = "open"  # takes audio
    ENDING = "ending"  # has all audio, and finishes what is pending
    ENDED = "ended"  # has sent `ended`
    DRAINING = "draining"  # the server shuts down: takes no more audio, and finishes what is pending
    DRAINED = "drained"  # has nothing pending; goes on when the client resumes


class Event(Enum):
    """What happens to a session; the value is its row in the table."""

    AUDIO = "`audio`, `gap`"
    REQUEST = "`ask`, `cancel`, `watch`, `unwatch`, `flush`, `name_speaker`, `instruct`"
    END = "`end` with the right total"
    WRONG_END = "`end` with another total"
    START = "`start`"
    DRAIN = "the server shuts down"
    FINISHED = "nothing is pending"

    @classmethod
    def of(cls, message: m.ClientMessage, received: int) -> Event:
        """Return the event of a message; ``received``: the client frames so far."""
        match message:
            case m.Audio() | m.Gap():
                return cls.AUDIO
            case m.End(total=total):
                return cls.END if total == received else cls.WRONG_END
            case m.Start():
                return cls.START
            case _:
                return cls.REQUEST


class Effect(Enum):
    """What a session does about an event; the value is how the table says it."""

    TAKE = "taken"
    IGNORE = "ignored"
    REFUSE = "`no_session`"
    REFUSE_TOTAL = "`bad_end`"
    REFUSE_START = "`no_session`, or `bad_format`"  # bad_format if the start has another audio format
    CLOSE_OPEN = "the open utterance and window are closed"
    SEND_ENDED = "`ended` is sent"
    NONE = "–"


_OPEN, _ENDING, _ENDED, _DRAINING, _DRAINED = State

# One row an event, one column a state, in the order of `State`. An effect alone leaves the state as it is.
_ROWS: Final[dict[Event, tuple[Effect | tuple[Effect, State], ...]]] = {
    Event.AUDIO: (Effect.TAKE, Effect.REFUSE, Effect.REFUSE, Effect.IGNORE, Effect.IGNORE),
    Event.REQUEST: (Effect.TAKE, Effect.TAKE, Effect.REFUSE, Effect.TAKE, (Effect.TAKE, _DRAINING)),
    Event.END: ((Effect.TAKE, _ENDING), Effect.IGNORE, Effect.IGNORE, Effect.IGNORE, Effect.IGNORE),
    Event.WRONG_END: (Effect.REFUSE_TOTAL, Effect.REFUSE, Effect.REFUSE, Effect.REFUSE, Effect.REFUSE),
    Event.START: (Effect.REFUSE_START, Effect.REFUSE_START, Effect.REFUSE, Effect.REFUSE_START, Effect.REFUSE_START),
    Event.DRAIN: ((Effect.CLOSE_OPEN, _DRAINING), Effect.NONE, Effect.NONE, Effect.NONE, Effect.NONE),
    Event.FINISHED: (Effect.NONE, (Effect.SEND_ENDED, _ENDED), Effect.NONE, (Effect.NONE, _DRAINED), Effect.NONE),
}

TRANSITIONS: Final[dict[tuple[State, Event], tuple[Effect, State]]] = {
    (state, event): cell if isinstance(cell, tuple) else (cell, state)
    for event, row in _ROWS.items()
    for state, cell in zip(State, row, strict=True)
}


def transition(state: State, event: Event) -> tuple[Effect, State]:
    """Return the effect of an event in a state, and the state after it.

    Raises:
        NoSession: if the state refuses the event; the message names both.
    """
    effect, after = TRANSITIONS[state, event]
    if effect is Effect.REFUSE:
        raise illegal(state, event)
    return effect, after


def illegal(state: State, event: Event) -> NoSession:
    """Return the refusal of an event that is illegal in a state."""
    return NoSession(f"the session is {state.value} and does not take {event.value.replace('`', '')}")


def markdown() -> str:
    """Return the table of all transitions, as it stands in docs/architecture.md."""
    lines = [["event", *(state.value for state in State)], ["---"] * (1 + len(State))]
    for event in Event:
        cells = []
        for state in State:
            effect, after = TRANSITIONS[state, event]
            parts = [effect.value] if effect is not Effect.NONE or after is state else []
            parts += [f"→ {after.value}"] if after is not state else []
            cells.append(", ".join(parts))
        lines.append([event.value, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
