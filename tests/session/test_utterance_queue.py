"""Closed utterances wait in order; dividing one moves the numbers of those behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from af3stream.audio.events import Utterance
from af3stream.session.utterance_queue import UtteranceQueue

SECOND = 16_000


def utterance(number: int) -> Utterance:
    return Utterance(number, number * SECOND, (number + 1) * SECOND, np.zeros(SECOND, np.float32))


def waiting(queue: UtteranceQueue) -> list[tuple[int, int]]:
    """The number and the start of each, in seconds."""
    return [(each.index, each.start // SECOND) for each in queue.all]


def test_utterances_have_the_numbers_of_their_order() -> None:
    queue = UtteranceQueue()
    for number in range(3):
        queue.add(utterance(number))
    assert waiting(queue) == [(0, 0), (1, 1), (2, 2)]
    assert (queue.open, queue.oldest_held, len(queue), 1 in queue) == (3, 3, 3, True)
    assert queue.take(0).start == 0
    assert waiting(queue) == [(1, 1), (2, 2)]


def test_an_utterance_that_is_divided_moves_those_behind_it() -> None:
    queue = UtteranceQueue()
    queue.add(utterance(0))
    for number in (1, 2):
        queue.add(utterance(number), hold=True)
    assert queue.oldest_held == 1
    parts = queue.divide([utterance(1), replace(utterance(1), start=SECOND * 3 // 2)])
    assert [part.index for part in parts] == [1, 2]
    assert waiting(queue) == [(0, 0), (1, 1), (2, 1), (3, 2)]
    assert (queue.oldest_held, queue.open) == (3, 4)
    assert [part.index for part in queue.divide([utterance(2)])] == [3]
    assert (queue.oldest_held, queue.open) == (4, 4)


def test_it_knows_how_many_utterances_closed_before_the_oldest_whatever_was_divided() -> None:
    queue = UtteranceQueue()
    assert not queue.closed_before(9)
    for number in range(2):
        queue.add(utterance(number), hold=True)
    queue.divide([utterance(0)] * 3)
    for number in range(3):
        assert queue.closed_before(1)
        queue.take(number)
    assert not queue.closed_before(1) and queue.closed_before(2)


def test_an_utterance_that_is_put_back_waits_in_its_place() -> None:
    queue = UtteranceQueue()
    for number in range(3):
        queue.add(utterance(number))
    first = queue.take(0)
    queue.take(1)
    queue.put_back(first)
    assert waiting(queue) == [(0, 0), (2, 2)] and queue.oldest == first
