"""The outgoing queue batches messages, sends urgent ones at once, and stays within the receiver's credit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3stream.cluster.coalescing import BATCH_BYTES, Outgoing, QueueFull


def outgoing(credit: int = 100, limit: int = 1_000) -> Outgoing:
    return Outgoing(0.05, credit, limit)


def test_a_message_waits_for_others() -> None:
    queue = outgoing()
    queue.put(b"a", 10.0)
    queue.put(b"b", 10.04)
    assert queue.due == 10.05
    assert queue.take() == [b"a", b"b"]
    assert queue.due is None


def test_an_urgent_message_is_sent_at_once_with_those_before_it() -> None:
    queue = outgoing()
    queue.put(b"a", 10.0)
    queue.put(b"b", 10.01, urgent=True)
    assert queue.due == 10.01
    assert queue.take() == [b"a", b"b"]


def test_nothing_is_sent_beyond_the_credit() -> None:
    queue = outgoing(credit=10)
    for _ in range(4):
        queue.put(b"12345678", 0.0, urgent=True)
    queue.sent(sum(map(len, queue.take()[:1])))
    assert queue.due is None
    queue.grant(8)
    assert queue.due == 0.0


def test_a_message_longer_than_the_credit_is_sent_alone() -> None:
    queue = outgoing(credit=10)
    queue.put(b"x" * 50, 0.0, urgent=True)
    assert queue.take() == [b"x" * 50]


def test_a_batch_is_bounded() -> None:
    queue = outgoing(credit=10 * BATCH_BYTES, limit=10 * BATCH_BYTES)
    for _ in range(3):
        queue.put(bytes(BATCH_BYTES // 2), 0.0)
    assert [len(queue.take()), len(queue.take())] == [2, 1]


def test_a_full_queue_takes_nothing() -> None:
    queue = outgoing(limit=10)
    queue.put(b"1234567", 0.0)
    with pytest.raises(QueueFull):
        queue.put(b"1234", 0.0)
    assert queue.waiting_bytes == 7


def test_a_message_longer_than_the_queue_is_taken_alone() -> None:
    queue = outgoing(limit=10)
    queue.put(b"x" * 50, 0.0)
    assert queue.fullness == 5.0
    with pytest.raises(QueueFull):
        queue.put(b"x", 0.0)
    assert queue.take() == [b"x" * 50]
    assert queue.fullness == 0.0


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.booleans())), st.integers(1, 100))
def test_messages_stay_in_order_and_within_their_bounds(acts: list[tuple[int, bool, bool]], credit: int) -> None:
    queue, taken, on_their_way = outgoing(credit, limit=10_000), list[bytes](), list[int]()
    put = [bytes([i % 256]) * size for i, (size, _, _) in enumerate(acts)]
    for i, (_, urgent, processed) in enumerate(acts):
        queue.put(put[i], float(i), urgent=urgent)
        if queue.due is not None:
            batch = queue.take()
            taken += batch
            on_their_way.append(sum(map(len, batch)))
            queue.sent(on_their_way[-1])
        assert queue.unprocessed <= credit or len(on_their_way) == 1
        if processed and on_their_way:
            queue.grant(on_their_way.pop(0))
    assert taken == put[: len(taken)]
    assert queue.waiting_bytes == sum(map(len, put[len(taken) :]))
