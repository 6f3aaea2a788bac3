"""Speakers are told apart by their voices alone: vectors in, small numbers out, and corrections."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from af3stream.session.speakers import (
    HOP,
    LEAST,
    MOST,
    REMEMBERED,
    SAME,
    WINDOW,
    Part,
    Speakers,
    Vector,
    divide,
    stretches,
)

SECOND = 16_000
SIZE = 32


def voice(person: int, blend: int | None = None, share: float = 0.0) -> Vector:
    """A person's voice, with a share of another one's; those of two people are at right angles."""
    vector = np.zeros(SIZE, np.float32)
    vector[person] = 1
    if blend is not None:
        vector = (1 - share) * vector + share * voice(blend)
    return vector / np.linalg.norm(vector)


def part(vector: Vector | None, seconds: float = 3.0) -> Part:
    return Part(0, round(seconds * SECOND), vector)


def heard(speakers: Speakers, *people: int) -> list[int | None]:
    return [speakers.hear(number, part(voice(person))) for number, person in enumerate(people)]


# ---- stretches and changes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [LEAST, WINDOW, WINDOW + 1, 5 * SECOND, 12 * SECOND + 77, 30 * SECOND])
def test_stretches_cover_the_utterance(length: int) -> None:
    wanted = stretches(length)
    assert wanted[0][0] == 0 and length - wanted[-1][1] <= HOP // 2
    assert all(end - start == min(length, WINDOW) for start, end in wanted)
    assert all(0 < later[0] - earlier[0] <= HOP for earlier, later in pairwise(wanted))


def test_a_short_utterance_has_no_voice() -> None:
    assert stretches(LEAST - 1) == ()
    (only,) = divide(np.zeros(LEAST - 1, np.float32), np.zeros((0, SIZE), np.float32))
    assert (only.start, only.end, only.voice) == (0, LEAST - 1, None)


def utterance(*turns: tuple[int, float]) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:
    """Samples of people who speak for so many seconds each, 0.1 s of silence between them; voices; the changes."""
    owners = np.concatenate([np.full(round(seconds * SECOND), person) for person, seconds in turns])
    samples = np.where(np.arange(len(owners)) % 2, 0.5, -0.5).astype(np.float32)
    changes = [int(place) for place in np.flatnonzero(np.diff(owners)) + 1]
    for change in changes:
        samples[change - SECOND // 20 : change + SECOND // 20] = 0
    voices = []
    for start, end in stretches(len(samples)):
        people, counts = np.unique(owners[start:end], return_counts=True)
        mixed = np.sum([count * voice(person) for person, count in zip(people, counts, strict=True)], axis=0)
        voices.append(mixed / np.linalg.norm(mixed))
    return samples, np.stack(voices), changes


@pytest.mark.parametrize(
    "turns",
    [
        [(0, 4.0)],
        [(0, 3.0), (1, 3.0)],
        [(0, 2.2), (1, 5.1)],
        [(0, 6.0), (1, 3.0), (0, 4.0)],
        [(0, 3.3), (1, 3.9), (2, 4.4), (3, 2.7)],
    ],
)
def test_an_utterance_is_divided_in_the_pause_where_the_speaker_changes(turns: list[tuple[int, float]]) -> None:
    samples, voices, changes = utterance(*turns)
    parts = divide(samples, voices)
    assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == len(samples)
    found = [part.end for part in parts[:-1]]
    assert len(found) == len(changes)
    assert all(abs(place - change) <= SECOND // 20 for place, change in zip(found, changes, strict=True))
    assert [int(np.argmax(part.voice)) for part in parts if part.voice is not None] == [person for person, _ in turns]


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_speakers_are_numbered_by_their_first_words() -> None:
    assert heard(Speakers(), 7, 7, 3, 7, 5, 3, 5) == [1, 1, 2, 1, 3, 2, 3]


def test_a_voice_that_is_little_like_a_speaker_begins_another() -> None:
    speakers = Speakers()
    assert speakers.hear(0, part(voice(0))) == 1
    near, far = np.zeros((2, SIZE), np.float32)
    near[[0, 1]] = SAME + 0.05, np.sqrt(1 - (SAME + 0.05) ** 2)
    far[[0, 2]] = SAME - 0.05, np.sqrt(1 - (SAME - 0.05) ** 2)
    assert speakers.hear(1, part(far)) == 2
    assert Speakers().hear(0, part(near)) == 1
    again = Speakers()
    assert [again.hear(0, part(voice(0))), again.hear(1, part(near))] == [1, 1]


def test_little_speech_begins_no_speaker_but_the_first() -> None:
    speakers = Speakers()
    assert speakers.hear(0, part(voice(0), seconds=1.0)) == 1
    assert speakers.hear(1, part(voice(1), seconds=1.0)) == 1
    assert speakers.hear(2, part(voice(1), seconds=3.0)) == 2


def test_what_has_no_voice_has_no_speaker() -> None:
    speakers = Speakers()
    assert speakers.hear(0, part(None)) is None
    assert not speakers.knows(1)


@pytest.mark.parametrize("most", [1, 2, MOST])
def test_there_are_at_most_so_many_speakers(most: int) -> None:
    told = heard(Speakers(most), *range(MOST + 4))
    assert {*told} == {*range(1, most + 1)}


def test_memory_is_bounded() -> None:
    speakers = Speakers()
    for number in range(3 * REMEMBERED):
        speakers.hear(number, part(voice(number % 20)))
        speakers.correct()
    assert len(speakers._heard) == REMEMBERED
    assert len(speakers._known) <= MOST


# ---- corrections -----------------------------------------------------------------------------------------------------


def test_two_speakers_that_turn_out_to_be_one_have_the_earlier_number() -> None:
    speakers = Speakers()
    speakers.hear(0, part(voice(0)))
    speakers.hear(1, part(voice(1)))  # the same person, hoarse
    assert speakers.correct() == {}
    for number in (2, 3, 4):
        assert speakers.hear(number, part(voice(0, 1, 0.45))) == 1
    for number in (5, 6, 7):
        speakers.hear(number, part(voice(1, 0, 0.45)))
    assert speakers.correct() == {1: 1} or speakers.aliases == {2: 1}
    assert speakers.hear(8, part(voice(1, 0, 0.3))) == 1


def test_an_utterance_goes_to_the_speaker_whose_voice_is_closer_by_now() -> None:
    speakers = Speakers()
    speakers.add(0, 1, part(voice(0)))
    speakers.add(1, 1, part(voice(1), seconds=1.0), learn=False)  # before the second speaker was known
    speakers.add(2, 2, part(voice(1)))
    assert speakers.correct() == {1: 2}
    assert speakers.correct() == {}


def people(count: int) -> NDArray[np.float32]:
    """So many voices of four people, who are not very unlike."""
    random = np.random.default_rng(5)
    vectors = random.normal(size=(count, SIZE)).astype(np.float32)
    vectors[:, :4] += 3 * np.eye(4, dtype=np.float32)[random.integers(0, 4, count)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16).astype(np.float32)  # as the journal has them


def test_the_same_voices_give_the_same_speakers() -> None:
    vectors = people(60)

    def run() -> list[tuple[int | None, dict[int, int]]]:
        speakers = Speakers()
        return [(speakers.hear(i, part(vector)), speakers.correct()) for i, vector in enumerate(vectors)]

    assert run() == run()


def test_speakers_that_are_restored_are_those_that_were_heard() -> None:
    vectors = people(60)
    live, restored = Speakers(), Speakers()
    for i, vector in enumerate(vectors[:40]):
        seconds = 1.0 + i % 3  # short parts go to the nearest speaker, and are not learned if they are unlike
        speaker = live.hear(i, part(vector, seconds))
        assert speaker is not None
        restored.restore(i, speaker, part(vector, seconds))
        assert restored.correct() == live.correct()
    assert live.centroids().keys() == restored.centroids().keys()
    for speaker, centroid in live.centroids().items():
        np.testing.assert_array_equal(centroid, restored.centroids()[speaker])
    for i, vector in enumerate(vectors[40:], 40):
        assert restored.hear(i, part(vector)) == live.hear(i, part(vector))
    assert restored.aliases == live.aliases


def test_a_number_that_somebody_had_before_a_restart_is_given_to_nobody_else() -> None:
    speakers = Speakers()
    speakers.restore(0, 3, part(voice(5)))
    assert heard(speakers, 0, 1) == [4, 5]
