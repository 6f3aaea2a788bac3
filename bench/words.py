"""Measure words of captions: delay until they are shown, changes, and errors."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

from af3stream.protocol.messages import Caption
from bench.common import RECORDINGS


@dataclass(frozen=True, slots=True)
class Word:
    """A word, and its end in seconds."""

    text: str
    end: float


def said() -> str:
    """Return the reference text of the recordings."""
    lines = (RECORDINGS / "transcription.txt").read_text().splitlines()
    return " ".join(re.sub(r"</?s>|\(.*\)", "", line).strip() for line in lines)


def bare(text: str) -> str:
    """Return the normalised words of a text."""
    words = re.sub(r"[^\w\s']", " ", text.casefold()).split()
    return " ".join({"mr": "mister"}.get(word, word) for word in words)


def timed_words(model: Any, recordings: Sequence[Any], starts: Sequence[float]) -> list[Word]:
    """Return faster-whisper's word times for recordings (n,) at 16 kHz that begin at ``starts``, in seconds."""
    words = []
    for samples, start in zip(recordings, starts, strict=True):
        segments, _ = model.transcribe(samples, language="en", word_timestamps=True)
        spoken = [word for segment in segments for word in segment.words or ()]
        words += [Word(text, start + word.end) for word in spoken for text in bare(word.word).split()]
    return words


def delays(captions: Sequence[tuple[float, Caption]], words: Sequence[Word], *, stable: bool = False) -> list[float]:
    """Return the seconds from the end of each word until it is shown for good; misrecognised words are left out.

    Args:
        captions: captions with their times of arrival in seconds.
        words: the spoken words.
        stable: count a word as shown only once it is stable or final.
    """
    shown: list[tuple[str, float]] = []
    for history in by_utterance(captions):
        texts = [(at, bare(one.stable if stable else one.text).split()) for at, one in history]
        final = texts[-1][1] if history[-1][1].final else []
        shown += [(word, _since(texts, index, word)) for index, word in enumerate(final)]
    matcher = SequenceMatcher(None, [word.text for word in words], [word for word, _ in shown], autojunk=False)
    return [
        shown[match.b + i][1] - words[match.a + i].end
        for match in matcher.get_matching_blocks()
        for i in range(match.size)
    ]


def revised(captions: Sequence[tuple[float, Caption]]) -> float:
    """Return the share of words in partial captions that the next caption of the utterance changes."""
    before_and_after = [
        (bare(before.text).split(), bare(after.text).split())
        for history in by_utterance(captions)
        for (_, before), (_, after) in pairwise(history)
    ]
    count = sum(len(before) for before, _ in before_and_after)
    return sum(_changed(before, after) for before, after in before_and_after) / max(1, count)


def taken_back(captions: Sequence[tuple[float, Caption]]) -> int:
    """Count stable words that the next caption of the utterance changes."""
    return sum(
        _changed(bare(before.stable).split(), bare(after.text).split())
        for history in by_utterance(captions)
        for (_, before), (_, after) in pairwise(history)
    )


def by_utterance(captions: Sequence[tuple[float, Caption]]) -> list[list[tuple[float, Caption]]]:
    """Group captions by utterance, in order."""
    histories: dict[int, list[tuple[float, Caption]]] = defaultdict(list)
    for at, caption in captions:
        histories[caption.utterance].append((at, caption))
    return list(histories.values())


def _since(texts: Sequence[tuple[float, Sequence[str]]], index: int, word: str) -> float:
    """Return the time from which every text has this word at this place."""
    since = texts[-1][0]
    for at, text in reversed(texts):
        if index >= len(text) or text[index] != word:
            break
        since = at
    return since


def _changed(before: Sequence[str], after: Sequence[str]) -> int:
    """Count leading words that differ, including missing ones."""
    return sum(old != new for old, new in zip(before, after, strict=False)) + max(0, len(before) - len(after))
