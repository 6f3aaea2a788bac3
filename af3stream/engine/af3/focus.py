"""What of a body a question is about: where its words were said, by the notes, and by ear where no note has them.

A small model finds a sentence in two minutes of speech less often than it reads one that stands alone, and whoever asks
often knows a word better than the captioner did. So a question that names words is answered from the stretches where
they were said, where these are few; any other from the whole body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from af3stream.engine.af3.english import ASKING, COMMON, WHETHER
from af3stream.engine.af3.spelling import Filler, Spelling, Spotted
from af3stream.engine.contract import Part, Sound, Text, note, noted

SENTENCES: Final = 3  # a word in more of them is what much is about, and the whole body is read
FAINT: Final = -12.0  # a score below which it was not, even where the question takes for granted that it was
PLAIN: Final = -3.0  # a score from which on a word is taken as said
FAR: Final = 30.0  # by how much a place a whole window away from where a word is heard is less likely to be its own
PAUSE: Final = 13  # blank frames that end an utterance: half a second
LONGEST: Final = 200  # frames on either side of a word

_WORD: Final = re.compile(r"\w+(?:['’-]\w+)*")
_SENTENCE: Final = re.compile(r"(?<=[.?!])(?<!\b[DM][rs]\.)(?<!\bMrs\.)(?<!\bSt\.)\s+")  # and no title's stop


@dataclass(frozen=True, slots=True)
class Change:
    """A window's notes with a word in place of one or two others.

    Attributes:
        sentence: the one that was changed.
        words: all of the notes.
        place: which share of the notes stands before the middle of what was replaced.
    """

    sentence: str
    words: str
    place: float


@dataclass(frozen=True, slots=True)
class Place:
    """A sound of a body, and the words of the note that follows it."""

    sound: Sound
    words: str


class Focus:
    """Finds the parts of a body that a question in English names.

    Args:
        spelling: how frames spell.
    """

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._fillers = WeakKeyDictionary[Sound, Filler]()  # they outlive embeddings that are dropped

    def listens(self, parts: Sequence[Part], question: str) -> bool:
        """Whether the frames of a body are looked through for this question."""
        words = telling(question)
        return bool(words) and not _most(words, _notes(parts))

    def shown(self, parts: Sequence[Part], question: str) -> list[Part] | None:
        """What to answer this question from, in place of the whole body.

        Args:
            parts: of a body, its sounds encoded.

        Returns:
            ``None`` for the whole body: where the question names nothing, or that is said too often, or is heard
            nowhere and there are no notes.
        """
        words, sentences = telling(question), _notes(parts)
        if most := _most(words, sentences):
            found = [sentence for sentence in sentences if _count(words, sentence) == most]
            return [note(" ".join(found))] if len(found) <= SENTENCES else None
        return self._heard(_places(parts), words, question) if words else None

    def read(self, sound: Sound) -> Filler:
        """What an encoded window's frames spell, once for as long as there is the window."""
        if sound not in self._fillers:
            self._fillers[sound] = self._spelling.filler(_frames(sound))
        return self._fillers[sound]

    def _heard(self, places: Sequence[Place], words: Sequence[str], question: str) -> list[Part] | None:
        """Where the word that is heard best is said."""
        windows = [(_frames(place.sound), self.read(place.sound)) for place in places]
        spotted = [(spot, word) for word in words if (spot := self._spelling.spot(windows, word))]
        if not spotted:
            return None
        spot, word = max(spotted)
        place, (frames, filler) = places[spot.window], windows[spot.window]
        likely = spot.score >= (PLAIN if _whether(question) else FAINT)
        if place.words:
            return [note(self._put_in(frames, spot, place.words, word) if likely else place.words)]
        if _whether(question):
            return [_stretch(frames, filler, spot), *([note(word)] if likely else [])]
        return [_stretch(frames, filler, spot)] if likely else None

    def _put_in(self, frames: torch.Tensor, spot: Spotted, words: str, word: str) -> str:
        """The sentence of a window's notes that the word belongs in, with it in place of one or two others.

        The captioner misheard it, so it is where the frames find the notes likeliest with it, and near where it is
        said, by the share of the notes that stands before.
        """
        said = (spot.first + spot.last) / 2 / len(frames)
        changes = [*_changes(words, word)]
        likelihoods = self._spelling.likelihoods(frames, [change.words for change in changes])
        scores = [likely - FAR * abs(change.place - said) for likely, change in zip(likelihoods, changes, strict=True)]
        return changes[int(np.argmax(scores))].sentence


def telling(question: str) -> list[str]:
    """The words of a question that tell where its answer is, as they are written.

    None where it asks who said something: a name stands in another sentence than what is said.
    """
    words = _WORD.findall(question)
    if words and words[0].casefold() == "who":
        return []
    return [word for word in words if word.casefold() not in COMMON | ASKING]


def _whether(question: str) -> bool:
    """Whether a question is one of yes or no: it takes nothing for granted."""
    return _bare(question)[0] in WHETHER


def _bare(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _count(words: Sequence[str], sentence: str) -> int:
    """How many of the words a sentence has."""
    return len({word.casefold() for word in words} & {*_bare(sentence)})


def _most(words: Sequence[str], sentences: Sequence[str]) -> int:
    """How many of the words the sentence has that has most of them."""
    return max((_count(words, sentence) for sentence in sentences), default=0)


def _notes(parts: Sequence[Part]) -> list[str]:
    """The sentences of a body's notes."""
    return [*chain.from_iterable(_SENTENCE.split(noted(part)) for part in parts if isinstance(part, Text))]


def _places(parts: Sequence[Part]) -> list[Place]:
    """The sounds of a body, each with the note that follows it."""
    following = [*parts[1:], Text("")]
    return [
        Place(part, noted(after) if isinstance(after, Text) else "")
        for part, after in zip(parts, following, strict=True)
        if isinstance(part, Sound)
    ]


def _changes(words: str, word: str) -> Iterator[Change]:
    """All ways to put a word into a window's notes."""
    sentences = _SENTENCE.split(words)
    for number, sentence in enumerate(sentences):
        before, after, each = sentences[:number], sentences[number + 1 :], sentence.split(" ")
        for begin, end in [(b, e) for b in range(len(each)) for e in (b + 1, b + 2) if e <= len(each)]:
            stop = re.sub(r"^.*?(\W*)$", r"\1", each[end - 1])
            changed = " ".join([*each[:begin], word + stop, *each[end:]])
            earlier, misheard = " ".join([*before, *each[:begin]]), " ".join(each[begin:end])
            place = (len(earlier) + len(misheard) / 2) / len(words)
            yield Change(changed, " ".join([*before, changed, *after]), place)


def _frames(sound: Sound) -> torch.Tensor:
    """What a sound is encoded as, (K, hidden)."""
    frames = sound.embeddings
    assert isinstance(frames, torch.Tensor), "a sound is encoded before it is looked through"
    return frames


def _stretch(frames: torch.Tensor, filler: Filler, spot: Spotted) -> Sound:
    """The frames around a word, up to the pauses on both sides."""
    first = spot.first - _until_pause(filler.blank[: spot.first][::-1])
    last = spot.last + 1 + _until_pause(filler.blank[spot.last + 1 :])
    return Sound(None, last - first, frames[first:last])


def _until_pause(blank: NDArray[np.bool_]) -> int:
    """Frames up to the end of the first pause, or as many as there may be."""
    run = 0
    for count, quiet in enumerate(blank[:LONGEST], start=1):
        run = run + 1 if quiet else 0
        if run == PAUSE:
            return count
    return min(len(blank), LONGEST)
