"""Tell the speakers of a session apart, online. Pure: the same voices in the same order give the same speakers.

A voice is a vector of length 1 that a `VoiceEncoder` computes from about a second of speech; the cosine of two vectors
of one person is large. An utterance is divided where the voices before and after a place are unlike. Each part goes to
the speaker whose centroid is most alike, or begins a new speaker. Speakers are numbered 1, 2, ... by their first words.

Memory is bounded: a centroid for each speaker, and the voices of the newest `REMEMBERED` parts. Those may be corrected:
when two speakers turn out to be one, or when another speaker's centroid is clearly closer by now.

The constants were chosen on the development voices of `python -m training.evaluate speakers`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.pcm import Samples

Vector = NDArray[np.float32]  # (d,), of length 1
Stretch = tuple[int, int]  # start and end, samples at 16 kHz

WINDOW: Final = 3 * SAMPLE_RATE // 2  # samples of one voice
HOP: Final = WINDOW // 2  # samples from one voice to the next
LEAST: Final = WINDOW // 2  # samples; the voice of a shorter utterance cannot be told
SIDE: Final = 2  # voices on each side of a place that are compared
CHANGE: Final = 0.25  # cosine of the voices before and after a place below which the speaker changes there
SAME: Final = 0.35  # cosine to a centroid from which on a voice is that speaker's
MERGE: Final = 0.6  # cosine of two centroids from which on they are one speaker
MARGIN: Final = 0.1  # by so much another centroid must be closer before a part is corrected
NEW: Final = 3 * WINDOW // 2  # samples of speech that can begin a speaker; less goes to the nearest
MOST: Final = 16  # speakers of one session
REMEMBERED: Final = 256  # parts that may be corrected
QUIET: Final = SAMPLE_RATE // 10  # samples over which loudness is averaged to find a pause between two speakers


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """A stretch of an utterance with one speaker, in samples from the utterance's start.

    Attributes:
        voice: the mean of its voices; ``None`` if it is too short to tell.
    """

    start: int
    end: int
    voice: Vector | None


def stretches(length: int) -> tuple[Stretch, ...]:
    """Return the stretches of an utterance of this many samples whose voices are wanted; none if it is too short."""
    if length < LEAST:
        return ()
    if length <= WINDOW:
        return ((0, length),)
    starts = [*range(0, length - WINDOW + 1, HOP)]
    if length - WINDOW - starts[-1] > HOP // 2:
        starts.append(length - WINDOW)
    return tuple((start, start + WINDOW) for start in starts)


def divide(samples: Samples, voices: NDArray[np.float32]) -> list[Part]:
    """Divide an utterance where its speaker changes.

    Args:
        samples: (n,) of the utterance.
        voices: (len(stretches(n)), d) of its stretches.
    """
    wanted = stretches(len(samples))
    places = sorted(_changes(wanted, voices))
    bounds = [0, *(_quietest(samples, place) for place in places), len(samples)]
    parts = []
    for (start, end), (low, high) in zip(pairwise(bounds), pairwise([0, *places, len(samples)]), strict=True):
        inside = [voice for (a, b), voice in zip(wanted, voices, strict=True) if low <= a and b <= high]
        parts.append(Part(start, end, _unit(np.sum(inside, axis=0)) if inside else None))
    return parts


def _changes(wanted: Sequence[Stretch], voices: NDArray[np.float32]) -> Iterator[int]:
    """The places where the speaker changes: the clearest one, then those before and after it."""
    likeness = {
        place: float(_mean_of(voices[:before][-SIDE:]) @ _mean_of(voices[after:][:SIDE]))
        for after, (place, _) in enumerate(wanted)
        if (before := sum(end <= place for _, end in wanted))
    }
    place = min(likeness, key=lambda place: likeness[place], default=None)
    if place is None or likeness[place] >= CHANGE:
        return
    before = sum(end <= place for _, end in wanted)
    after = next(i for i, (start, _) in enumerate(wanted) if start >= place)
    yield place
    yield from _changes(wanted[:before], voices[:before])
    yield from _changes(wanted[after:], voices[after:])


def _mean_of(voices: NDArray[np.float32]) -> Vector:
    return _unit(voices.sum(0))


def _unit(vector: NDArray[np.float32]) -> Vector:
    """A vector of length 1, as it stands in the journal: of sixteen bits a number."""
    length = float(np.linalg.norm(vector))
    rounded: Vector = (vector / max(length, 1e-9)).astype(np.float16).astype(np.float32)
    return rounded


def _quietest(samples: Samples, place: int) -> int:
    """The quietest place near a change; the voices on its sides overlap it by up to half a window."""
    low, high = max(0, place - HOP), min(len(samples), place + HOP)
    power = np.convolve(np.square(samples[low:high], dtype=np.float64), np.ones(QUIET), "valid")
    return low + int(power.argmin()) + QUIET // 2


@dataclass(eq=False, slots=True)
class _Known:
    """A speaker.

    Attributes:
        total: the sum of its voices, each times its weight.
        parts: how many parts are its.
    """

    total: NDArray[np.float32]
    parts: int = 0


@dataclass(eq=False, slots=True)
class _Heard:
    """A part that may be corrected. ``weight``: seconds that its speaker's centroid has of it."""

    utterance: int
    speaker: int
    voice: Vector
    weight: float


@dataclass(eq=False, slots=True)
class Speakers:
    """The speakers of one session.

    Attributes:
        most: how many there may be; a further voice goes to the one that is most alike.
        aliases: speakers that turned out to be another one.
    """

    most: int = MOST
    aliases: dict[int, int] = field(default_factory=dict)
    _known: dict[int, _Known] = field(default_factory=dict)
    _heard: deque[_Heard] = field(default_factory=deque)
    _newest: int = 0

    def knows(self, speaker: int) -> bool:
        """Whether somebody has spoken under this number, or under one that turned out to be this speaker."""
        return 1 <= speaker <= self._newest

    def centroids(self) -> dict[int, Vector]:
        """Return each speaker's centroid, of length 1."""
        return {speaker: _unit(known.total) for speaker, known in sorted(self._known.items())}

    def hear(self, utterance: int, part: Part) -> int | None:
        """Return who speaks in an utterance; ``None`` if it is too short to tell."""
        if part.voice is None:
            return None
        nearest, likeness = self._nearest(part.voice)
        alike = likeness >= SAME
        begins = len(self._known) < self.most and part.end - part.start >= NEW
        if nearest is None or (begins and not alike):
            self.add(utterance, self._newest + 1, part)
            return self._newest
        self.add(utterance, nearest, part, learn=alike)
        return nearest

    def join(self, parts: Sequence[Part]) -> list[Part]:
        """Join the neighbours among the parts of an utterance that are one known speaker's, so that none is cut."""
        joined: list[Part] = []
        before: int | None = None
        for part in parts:
            speaker, likeness = (None, 0.0) if part.voice is None else self._nearest(part.voice)
            if likeness < SAME:
                speaker = None
            if speaker is not None and speaker == before:
                last = joined.pop()
                assert last.voice is not None and part.voice is not None
                weighed = (last.end - last.start) * last.voice + (part.end - part.start) * part.voice
                joined.append(Part(last.start, part.end, _unit(weighed)))
            else:
                joined.append(part)
            before = speaker
        return joined

    def _nearest(self, voice: Vector) -> tuple[int | None, float]:
        """The speaker whose centroid is most alike, and the cosine to it."""
        likeness = {speaker: float(voice @ _unit(known.total)) for speaker, known in self._known.items()}
        nearest = max(likeness, key=lambda speaker: likeness[speaker], default=None)
        return nearest, -1.0 if nearest is None else likeness[nearest]

    def restore(self, utterance: int, speaker: int, part: Part) -> None:
        """Take a part that began this speaker, or was given to it, as `hear` did then: the centroids are the same."""
        known = self._known.get(speaker)
        alike = part.voice is None or known is None or float(part.voice @ _unit(known.total)) >= SAME
        self.add(utterance, speaker, part, learn=alike)

    def add(self, utterance: int, speaker: int, part: Part, *, learn: bool = True) -> None:
        """Take a part whose speaker is decided; ``learn``: its voice counts for the speaker's centroid."""
        if part.voice is None:
            return
        weight = (part.end - part.start) / SAMPLE_RATE if learn else 0.0
        self._newest = max(self._newest, speaker)
        self._heard.append(_Heard(utterance, speaker, part.voice, 0.0))
        known = self._known.setdefault(speaker, _Known(np.zeros_like(part.voice)))
        known.parts += 1
        self._weigh(self._heard[-1], weight)
        if len(self._heard) > REMEMBERED:
            self._heard.popleft()

    def correct(self) -> dict[int, int]:
        """Return the utterances whose speaker is another one by now, with that speaker."""
        before = {heard.utterance: heard.speaker for heard in self._heard}
        self._merge()
        self._reassign()
        return {heard.utterance: heard.speaker for heard in self._heard if heard.speaker != before[heard.utterance]}

    def move(self, utterance: int, speaker: int) -> None:
        """Correct the speaker of an utterance, as was decided before."""
        for heard in self._heard:
            if heard.utterance == utterance and heard.speaker != speaker:
                self._move(heard, speaker)

    def _merge(self) -> None:
        """Make one speaker of two whose centroids are alike, if all parts of the later one can be corrected."""
        numbers = sorted(self._known)
        centroids = {number: _unit(self._known[number].total) for number in numbers}
        for later in numbers[::-1]:
            remembered = [heard for heard in self._heard if heard.speaker == later]
            earlier = [number for number in numbers if number < later]
            nearest = max(earlier, key=lambda number: float(centroids[number] @ centroids[later]), default=None)
            if nearest is None or len(remembered) < self._known[later].parts:
                continue
            if float(centroids[nearest] @ centroids[later]) >= MERGE:
                self.aliases[later] = nearest
                for heard in remembered:
                    self._move(heard, nearest)
                return

    def _reassign(self) -> None:
        """Move the parts that another centroid is clearly closer to."""
        if len(self._known) < 2:
            return
        numbers = sorted(self._known)
        centroids = np.stack([_unit(self._known[number].total) for number in numbers])
        for heard in [*self._heard]:
            likeness = centroids @ heard.voice
            best = int(likeness.argmax())
            own = numbers.index(heard.speaker) if heard.speaker in numbers else best
            if likeness[best] > likeness[own] + MARGIN:
                self._move(heard, numbers[best])

    def _move(self, heard: _Heard, speaker: int) -> None:
        weight = heard.weight
        self._weigh(heard, 0.0)
        known = self._known[heard.speaker]
        known.parts -= 1
        if not known.parts:
            del self._known[heard.speaker]
        heard.speaker = speaker
        self._known.setdefault(speaker, _Known(np.zeros_like(heard.voice))).parts += 1
        self._weigh(heard, weight)

    def _weigh(self, heard: _Heard, weight: float) -> None:
        """Have a part count so many seconds for its speaker's centroid."""
        known = self._known[heard.speaker]
        known.total = known.total + np.float32(weight - heard.weight) * heard.voice
        heard.weight = weight
