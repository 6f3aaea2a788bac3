"""Keep only those sentences of a reply that captions support, each with its best caption.

A small language model finds the right place more often than the right words. A sentence of the reply is kept if its
words, with all names and numbers, occur in one spoken sentence and its neighbours, and it does not begin with a
pronoun. If only most of its words occur there, the spoken sentence replaces it. Otherwise it is dropped. Only words are
compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from af3stream_clients.meeting_bot.state import FinalCaption

WORD: Final = re.compile(r"\w+(?:['’]\w+)*")
SENTENCE: Final = re.compile(r"(?<=[.!?;])[\"”']*\s+|\n+")
BULLET: Final = re.compile(r"^(?:[-*•\"“\s]|\d+[.)]\s|(?:yes|and|then)\b[,.:]?\s)+", re.IGNORECASE)
LEAD_IN: Final = re.compile(
    r"^(?:the|this)\s(?:recording|sentence|meeting|part|decision|conversation)\b[^.]*?"
    r"(?:\b(?:is|was|are|were|says?)\b(?:\sbeing)?(?:\sdiscussed|\ssaid\sto\sbe)?\s(?:that|about)\b|:(?=\s))\s*[\"“]?",
    re.IGNORECASE,
)
PRONOUN: Final = re.compile(r"(?:they|he|she|we|you|it|someone|somebody)\b", re.IGNORECASE)  # the name is unknown
SAYS_NOTHING: Final = re.compile(r"^\W*(?:no|none|nothing|nobody|not|there (?:is|was|were|are) no)\b", re.IGNORECASE)
FUNCTION_WORDS: Final = frozenset(
    """
    a about all also an and any are as at be been but by can could did do does for from had has have he her his how i if
    in into is it it's its no not of on or our she should so that that's the their them then there
    they this those to until very was we were what when where which while who will with would you your
    """.split()  # noqa: SIM905
)
OF_THE_PROMPT: Final = frozenset({"recording", "transcript", "sentence"})  # frequent in invented replies
STEM: Final = 5  # letters; inflected forms share them
SHORTEST: Final = 4  # letters of a word that is compared; names and numbers may be shorter
FEWEST: Final = 2  # such words in a sentence that is considered
SUPPORTED: Final = 0.8  # share of its words found: the sentence is kept
POINTED: Final = 0.65  # share of its words found: the spoken sentence replaces it
SAME: Final = 0.75  # of the shorter one's words in common: two items are duplicates
BESIDE: Final = 1  # neighbouring sentences on each side that are compared, too


@dataclass(frozen=True, slots=True)
class Item:
    """A sentence of the minutes, and the caption that supports it best."""

    text: str
    caption: FinalCaption


def ground(
    reply: str, captions: Sequence[FinalCaption], *, questions: bool = False, anywhere: bool = False
) -> list[Item]:
    """Return the supported sentences of a reply, in its order, without duplicates.

    Args:
        questions: whether a sentence may be a question.
        anywhere: whether all captions count as neighbours, as for a summary.
    """
    spoken = _spoken(captions)
    stems = [_stems(each.text) for each in spoken]
    beside = len(stems) if anywhere else BESIDE
    around = [set().union(*stems[max(0, at - beside) : at + beside + 1]) for at in range(len(stems))]
    items = (_supported(text, spoken, around, questions) for text in statements(reply, questions=questions))
    return merge(item for item in items if item)


def merge(items: Iterable[Item]) -> list[Item]:
    """Remove items that repeat an earlier one in about the same words."""
    kept: list[tuple[Item, set[str]]] = []
    for item in items:
        words = _stems(item.text)
        if all(len(words & other) < SAME * min(len(words), len(other)) for _, other in kept):
            kept.append((item, words))
    return [item for item, _ in kept]


def statements(reply: str, *, questions: bool = False) -> Iterator[str]:
    """Yield the sentences of a reply without lead-ins, and without those that say there is nothing."""
    for sentence in _split(reply):
        text = LEAD_IN.sub("", BULLET.sub("", sentence)).strip().rstrip("\"”'")
        if text and not SAYS_NOTHING.match(sentence) and (questions or not text.endswith("?")):
            yield text[0].upper() + text[1:]


def best_sentence(text: str, captions: Sequence[FinalCaption]) -> Item | None:
    """Return the spoken sentence that shares most words with a text, or ``None``."""
    words = _stems(text)
    return max(
        (each for each in _spoken(captions) if words & _stems(each.text)),
        key=lambda each: len(words & _stems(each.text)),
        default=None,
    )


def _supported(text: str, spoken: Sequence[Item], around: Sequence[set[str]], questions: bool) -> Item | None:
    """Return a sentence or its spoken replacement with the best caption; ``None`` if it is unsupported."""
    words = _stems(text)
    if len(words) < FEWEST or not spoken:
        return None
    shared = [len(words & _stems(each.text)) for each in spoken]
    best = max(range(len(spoken)), key=lambda at: (shared[at], questions or not spoken[at].text.endswith("?")))
    share = len(words & around[best]) / len(words)
    needed = {_stem(word) for word in _words(text) if _is_name(word) or word.casefold() in OF_THE_PROMPT}
    if share >= SUPPORTED and needed <= around[best] and not PRONOUN.match(text):
        return Item(text, spoken[best].caption)
    pointed = share >= POINTED and shared[best] >= FEWEST and (questions or not spoken[best].text.endswith("?"))
    return spoken[best] if pointed else None


def _spoken(captions: Iterable[FinalCaption]) -> list[Item]:
    """Return the sentences of captions."""
    return [Item(text, caption) for caption in captions for text in _split(caption.text)]


def _split(text: str) -> list[str]:
    return [sentence.strip() for sentence in SENTENCE.split(text) if sentence.strip()]


def _words(text: str) -> Iterator[str]:
    """Yield the words of a text that are compared."""
    for word in WORD.findall(text):
        if (len(word) >= SHORTEST or _is_name(word)) and word.casefold() not in FUNCTION_WORDS:
            yield word


def _is_name(word: str) -> bool:
    """Return whether a word is a number or may be a name, as every first word of a sentence may."""
    return word[0].isupper() or word[0].isdigit()


def _stems(text: str) -> set[str]:
    return {_stem(word) for word in _words(text)}


def _stem(word: str) -> str:
    return word.casefold().removesuffix("s")[:STEM]
