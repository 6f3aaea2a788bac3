"""What a reply says that was said: its sentences, each with the caption that supports it best.

A small language model finds the right place more often than the right words. A sentence of its reply is kept as it is
only if its words stand in one sentence that was said and those beside it, all of its names and numbers among them. If
only most of its words do, what was said stands in its place. Otherwise it is left out. The rule looks at words alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clients.meeting_bot.state import Said

WORD: Final = re.compile(r"\w+(?:['’]\w+)*")
SENTENCE: Final = re.compile(r"(?<=[.!?;])[\"”']*\s+|\n+")
WITHIN: Final = re.compile(r"(?<=[\w,;:] )[^\W\d_][\w'’]+")  # not the first word of its sentence
BULLET: Final = re.compile(r"^(?:[-*•\"“\s]|\d+[.)]\s|(?:yes|and|then)\b[,.:]?\s)+", re.IGNORECASE)
LEAD_IN: Final = re.compile(
    r"^(?:the|this)\s(?:recording|sentence|meeting|part|decision|conversation)\b[^.]*?\b(?:is|was|are|were)\b"
    r"(?:\s(?:being|discussed|that|about|in one short sentence))*[:,]?\s*[\"“]?",
    re.IGNORECASE,
)
SAYS_NOTHING: Final = re.compile(r"^\W*(?:no|none|nothing|nobody|not|there (?:is|was|were|are) no)\b", re.IGNORECASE)
FUNCTION_WORDS: Final = frozenset(  # and what replies call the recording
    """
    about also been does from have into it's recording sentence should that that's their them then there they this those
    until very were what when where which while will with would your
    """.split()  # noqa: SIM905
)
STEM: Final = 5  # letters that inflected forms of a word share
SHORTEST: Final = 4  # letters of a word that counts; names and numbers may be shorter
FEWEST: Final = 2  # such words in a sentence that says something
SUPPORTED: Final = 0.8  # of its words were said there: the sentence stands as it is
POINTED: Final = 0.6  # of its words were said there: what was said stands in its place
SAME: Final = 0.75  # of the shorter one's words: two items say the same
BESIDE: Final = 2  # sentences before and after that count, too


@dataclass(frozen=True, slots=True)
class Item:
    """A sentence of the minutes, and the caption that supports it best."""

    text: str
    said: Said


def ground(reply: str, captions: Sequence[Said], *, questions: bool = False) -> list[Item]:
    """Find what of a reply was said, in the order of the reply, none twice.

    Args:
        questions: whether an item may be a question.
    """
    names = _names(captions)
    spoken = [Item(text, said) for said in captions for text in _split(said.text)]
    stems = [_stems(each.text, names) for each in spoken]
    items = (_supported(text, spoken, stems, names) for text in statements(reply, questions=questions))
    return merge(item for item in items if item and (questions or not item.text.endswith("?")))


def merge(items: Iterable[Item]) -> list[Item]:
    """Leave out what an item before it says in about the same words."""
    kept: list[tuple[Item, set[str]]] = []
    for item in items:
        words = _stems(item.text, set())
        if all(len(words & other) < SAME * min(len(words), len(other)) for _, other in kept):
            kept.append((item, words))
    return [item for item, _ in kept]


def statements(reply: str, *, questions: bool = False) -> Iterator[str]:
    """The sentences of a reply, without what introduces them and without those that say there is nothing."""
    for sentence in _split(reply):
        text = LEAD_IN.sub("", BULLET.sub("", sentence)).strip().rstrip("\"”'")
        if text and not SAYS_NOTHING.match(sentence) and (questions or not text.endswith("?")):
            yield text[0].upper() + text[1:]


def best_caption(text: str, captions: Sequence[Said]) -> Said | None:
    """The caption that shares most words with a text; ``None`` if none shares any."""
    names = _names(captions)
    words = _stems(text, names)
    shared = [len(words & _stems(caption.text, names)) for caption in captions]
    most = max(shared, default=0)
    return captions[shared.index(most)] if most else None


def _supported(text: str, spoken: Sequence[Item], stems: Sequence[set[str]], names: set[str]) -> Item | None:
    """A statement with the caption that supports it, or what was said there in its place."""
    words = _stems(text, names)
    if len(words) < FEWEST:
        return None
    shared = [len(words & own) for own in stems]
    best = shared.index(max(shared))
    around = set().union(*stems[max(0, best - BESIDE) : best + BESIDE + 1])
    share = len(words & around) / len(words)
    needed = {word for word in words if word in names or word[0].isdigit()}
    if share >= SUPPORTED and needed <= around:
        return Item(text, spoken[best].said)
    return spoken[best] if share >= POINTED and shared[best] >= FEWEST else None


def _split(text: str) -> list[str]:
    return [sentence.strip() for sentence in SENTENCE.split(text) if sentence.strip()]


def _names(captions: Iterable[Said]) -> set[str]:
    """Words that stand with a capital within a sentence."""
    found = (word for caption in captions for word in WITHIN.findall(caption.text) if word[0].isupper())
    return {word.casefold()[:STEM] for word in found if len(word) > 1}


def _stems(text: str, names: set[str]) -> set[str]:
    """The words of a text that count, cut to what inflected forms share."""
    words = (word.casefold() for word in WORD.findall(text))
    return {
        word[:STEM]
        for word in words
        if word[0].isdigit() or word[:STEM] in names or (len(word) >= SHORTEST and word not in FUNCTION_WORDS)
    }
