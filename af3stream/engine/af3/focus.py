"""What of a body a question is about: where its words were said, by the notes, and by ear where no note has them.

A small model finds a sentence in two minutes of speech less often than it reads one that stands alone, and whoever asks
often knows a word better than the captioner did. So a question that names words is answered from the stretches where
they were said, where these are few; any other from the whole body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from af3stream.engine.af3.english import ASKING, COMMON, WHETHER
from af3stream.engine.af3.spelling import Filler, Spelling, Spotted, Stretch
from af3stream.engine.contract import Noted, Part, Sound, Text, note

FEW: Final = 3  # a word in more passages is what much is about, and the whole body is read
SHORT: Final = 30  # words of a caption that is one passage; a longer one is as many as it has sentences
FAINT: Final = -12.0  # a score below which it was not, even where the question takes for granted that it was
PLAIN: Final = -3.0  # a score from which on a word is taken as said
MISHEARD_FAINT, MISHEARD_PLAIN = -5.0, 4.0  # the same of a word that a caption has misheard, with these two:
LIKE: Final = 10.0  # by how much it is likelier where what the caption has is written the same
FAR: Final = 3.0  # by how much less where that stands at the other end of the caption
EDGE: Final = 3  # frames before and after an utterance that may be its own
PAUSE: Final = 13  # blank frames that end an utterance: half a second
LONGEST: Final = 200  # frames on either side of a word

_WORD: Final = re.compile(r"\w+(?:['’]\w+)*")
_NAMED: Final = re.compile(
    r"\b(?:about|mentions?|with the word) (.+?)\W*$|^\w+ (?:the word )?(.+?) mentioned\W*$", re.IGNORECASE
)
_SENTENCE: Final = re.compile(r"(?<=[.?!])(?<!\b[DM][rs]\.)(?<!\bMrs\.)(?<!\bSt\.)\s+")  # and no title's stop


@dataclass(frozen=True, slots=True)
class Change:
    """A passage of a caption with a word in place of one or two others.

    Attributes:
        like: how much what was replaced is written like the word, 0 to 1.
        place: which share of the caption stands before the middle of that.
    """

    passage: str
    like: float
    place: float


@dataclass(frozen=True, slots=True, order=True)
class Fitting:
    """A passage with a word that was misheard.

    Attributes:
        score: of how likely that is, as a log-probability.
        place: where in the body.
    """

    score: float
    place: int
    passage: str


@dataclass(frozen=True, slots=True)
class Place:
    """A sound of a body, and the captions in the note that follows it."""

    sound: Sound
    captions: tuple[Noted, ...]


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
        return bool(words) and not _most(words, _passages(parts))

    def shown(self, parts: Sequence[Part], question: str) -> list[Part] | None:
        """What to answer this question from, in place of the whole body.

        Args:
            parts: of a body, its sounds encoded.

        Returns:
            ``None`` for the whole body: where the question names nothing, or that is said too often, or is heard
            nowhere and there are no notes.
        """
        words, passages = telling(question) or named(question), _passages(parts)
        if most := _most(words, passages):
            found = [passage for passage in passages if _count(words, passage) == most]
            return [note(map(Noted, found))] if len(found) <= FEW else None
        if not telling(question):
            return None
        places = _places(parts)
        if any(place.captions for place in places):
            return self._misheard(places, words, question)
        return self._heard(places, words, question)

    def read(self, sound: Sound) -> Filler:
        """What an encoded window's frames spell, once for as long as there is the window."""
        if sound not in self._fillers:
            self._fillers[sound] = self._spelling.filler(_frames(sound))
        return self._fillers[sound]

    def _misheard(self, places: Sequence[Place], words: Sequence[str], question: str) -> list[Part] | None:
        """The passage of a caption that a word belongs in, with it in place of one or two others.

        The captioner misheard it, so it is where the frames of an utterance spell it likeliest, in place of what is
        written most like it and stands about there in the caption.
        """
        fitting = max((each for word in words for each in self._fitting(places, word)), default=None)
        if fitting is None:
            return None
        if fitting.score >= (MISHEARD_PLAIN if _whether(question) else MISHEARD_FAINT):
            return [note([Noted(fitting.passage)])]
        return [note(places[fitting.place].captions)]

    def _fitting(self, places: Sequence[Place], word: str) -> Iterator[Fitting]:
        """All ways to put a word into the captions of these places, the best of each caption."""
        captions = [(number, caption) for number, place in enumerate(places) for caption in place.captions]
        stretches = [self._utterance(places[number].sound, caption) for number, caption in captions]
        spots = self._spelling.spot(stretches, word)
        for (number, caption), stretch, spot in zip(captions, stretches, spots, strict=False):  # unless unspellable
            said = ((spot.first + spot.last) / 2 - stretch.first) / (stretch.end - stretch.first)
            yield max(
                Fitting(spot.score + LIKE * change.like - FAR * abs(change.place - said), number, change.passage)
                for change in _changes(caption.words, word)
            )

    def _heard(self, places: Sequence[Place], words: Sequence[str], question: str) -> list[Part] | None:
        """The utterance in which the word is said that is heard best."""
        windows = [Stretch(_frames(each.sound), self.read(each.sound), 0, each.sound.tokens) for each in places]
        spotted = [
            (spot, word, number) for word in words for number, spot in enumerate(self._spelling.spot(windows, word))
        ]
        if not spotted:
            return None
        spot, word, number = max(spotted)
        stretch = _until_pauses(windows[number], spot)
        likely = spot.score >= (PLAIN if _whether(question) else FAINT)
        if _whether(question):
            return [stretch, *([note([Noted(word)])] if likely else [])]
        return [stretch] if likely else None

    def _utterance(self, sound: Sound, caption: Noted) -> Stretch:
        """The frames that a caption was made of, of a window."""
        frames, count = _frames(sound), sound.tokens
        first = min(max(0, int(caption.begins * count) - EDGE), count - 1)
        return Stretch(
            frames, self.read(sound), first, max(first, min(count - 1, int(caption.ends * count) + EDGE)) + 1
        )


def telling(question: str) -> list[str]:
    """The words of a question that tell where its answer is, as they are written.

    None where it asks who said something: a name stands in another sentence than what is said.
    """
    return [] if _who(question) else [w for w in _WORD.findall(question) if w.casefold() not in COMMON | ASKING]


def named(question: str) -> list[str]:
    """The words of a question that it says itself it is about, those that questions are made of, too.

    They tell where its answer is only where they were said: to ask about the recording is to ask about all of it.
    """
    match = None if _who(question) else _NAMED.search(question)
    return [word for word in _WORD.findall(match[1] or match[2]) if word.casefold() not in COMMON] if match else []


def _who(question: str) -> bool:
    """Whether a question asks who said something."""
    return _bare(question)[:1] == ["who"]


def _whether(question: str) -> bool:
    """Whether a question is one of yes or no: it takes nothing for granted."""
    return _bare(question)[0] in WHETHER


def _bare(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _count(words: Sequence[str], passage: str) -> int:
    """How many of the words a passage has."""
    return len({word.casefold() for word in words} & {*_bare(passage)})


def _most(words: Sequence[str], passages: Sequence[str]) -> int:
    """How many of the words the passage has that has most of them."""
    return max((_count(words, passage) for passage in passages), default=0)


def _passages(parts: Sequence[Part]) -> list[str]:
    """What of a body's notes is shown by itself, caption by caption."""
    captions = chain.from_iterable(part.captions for part in parts if isinstance(part, Text))
    return [*chain.from_iterable(_passages_of(caption.words) for caption in captions)]


def _passages_of(words: str) -> list[str]:
    """A caption, or the sentences of a long one."""
    return [words] if len(words.split(" ")) <= SHORT else _SENTENCE.split(words)


def _places(parts: Sequence[Part]) -> list[Place]:
    """The sounds of a body, each with the captions that follow it."""
    following = [*parts[1:], Text("")]
    return [
        Place(part, after.captions if isinstance(after, Text) else ())
        for part, after in zip(parts, following, strict=True)
        if isinstance(part, Sound)
    ]


def _changes(caption: str, word: str) -> Iterator[Change]:
    """All ways to put a word into a caption."""
    before = 0
    for passage in _passages_of(caption):
        each = passage.split(" ")
        for begin, end in [(b, e) for b in range(len(each)) for e in (b + 1, b + 2) if e <= len(each)]:
            misheard, earlier = " ".join(each[begin:end]), " ".join(each[:begin])
            stop = re.sub(r"^.*?(\W*)$", r"\1", misheard)
            like = SequenceMatcher(None, word.casefold(), "".join(_bare(misheard)), autojunk=False).ratio()
            place = (before + len(earlier) + len(misheard) / 2) / len(caption)
            yield Change(" ".join([*each[:begin], word + stop, *each[end:]]), like, place)
        before += len(passage) + 1


def _frames(sound: Sound) -> torch.Tensor:
    """What a sound is encoded as, (K, hidden)."""
    frames = sound.embeddings
    assert isinstance(frames, torch.Tensor), "a sound is encoded before it is looked through"
    return frames


def _until_pauses(window: Stretch, spot: Spotted) -> Sound:
    """The frames around a word, up to the pauses on both sides."""
    blank = window.filler.blank
    first = spot.first - _until_pause(blank[: spot.first][::-1])
    last = spot.last + 1 + _until_pause(blank[spot.last + 1 :])
    return Sound(None, last - first, window.frames[first:last])


def _until_pause(blank: NDArray[np.bool_]) -> int:
    """Frames up to the end of the first pause, or as many as there may be."""
    run = 0
    for count, quiet in enumerate(blank[:LONGEST], start=1):
        run = run + 1 if quiet else 0
        if run == PAUSE:
            return count
    return min(len(blank), LONGEST)
