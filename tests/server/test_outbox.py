"""What waits for a slow reader: bounded, interims first to give way."""

from __future__ import annotations

import pytest

from af3stream.errors import SlowConsumer
from af3stream.protocol.messages import Ack, AnswerDelta, Caption, Error, Flushed, ServerMessage
from af3stream.server.outbox import DropInterimsOutbox


def interim(text: str) -> Caption:
    return Caption(0, text, 0, 1, final=False)


def final(text: str) -> Caption:
    return Caption(0, text, 0, 1, final=True)


async def drained(outbox: DropInterimsOutbox) -> list[ServerMessage]:
    outbox.close()
    messages = []
    while (message := await outbox.get()) is not None:
        messages.append(message)
    return messages


async def test_messages_come_out_as_they_went_in() -> None:
    outbox = DropInterimsOutbox(4)
    messages = [interim("a"), Ack(1, 0), final("a"), Flushed("f", 1)]
    outbox.put(messages)
    assert await drained(outbox) == messages


async def test_where_it_is_full_interims_and_acknowledgements_give_way() -> None:
    outbox = DropInterimsOutbox(3)
    outbox.put([interim("a"), final("a"), Ack(1, 0)])
    outbox.put([AnswerDelta("q", "x")])
    assert await drained(outbox) == [final("a"), AnswerDelta("q", "x")]


async def test_where_that_does_not_help_the_reader_is_too_slow_and_nothing_is_kept() -> None:
    outbox = DropInterimsOutbox(2)
    with pytest.raises(SlowConsumer):
        outbox.put([final("a"), final("b"), final("c"), interim("d")])
    goodbye = Error("slow_consumer", "", fatal=True, retryable=True)
    outbox.end_with(goodbye)
    assert await drained(outbox) == [goodbye]


async def test_a_greeting_is_as_long_as_what_was_missed() -> None:
    outbox = DropInterimsOutbox(2)
    missed = [final(str(number)) for number in range(100)]
    outbox.greet(missed)
    outbox.put([])
    outbox.put([interim("a"), final("b"), Ack(1, 0), final("c")])
    assert [await outbox.get() for _ in range(99)] == missed[:99]
    with pytest.raises(SlowConsumer):
        outbox.put([final("d")])


async def test_nothing_follows_the_last_message() -> None:
    outbox = DropInterimsOutbox(2)
    outbox.put([final("a")])
    outbox.close()
    outbox.put([final("b")] * 100)
    outbox.end_with(Error("late", "", fatal=True, retryable=False))
    assert await drained(outbox) == [final("a")]
