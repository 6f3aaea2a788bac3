"""What captions do to words: when each was said and shown, how often they change, how many are wrong."""

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
    """A word, and when it was said: the end, in seconds."""

    text: str
    end: float


def said() -> str:
    """What is said in the recordings."""
    lines = (RECORDINGS / "transcription.txt").read_text().splitlines()
    return " ".join(re.sub(r"</?s>|\(.*\)", "", line).strip() for line in lines)


def bare(text: str) -> str:
    """The words alone."""
    words = re.sub(r"[^\w\s']", " ", text.casefold()).split()
    return " ".join({"mr": "mister"}.get(word, word) for word in words)


def timed_words(model: Any, recordings: Sequence[Any], starts: Sequence[float]) -> list[Word]:
    """faster-whisper's own word times, of recordings (n,) at 16 kHz that begin at these seconds."""
    words = []
    for samples, start in zip(recordings, starts, strict=True):
        segments, _ = model.transcribe(samples, language="en", word_timestamps=True)
        spoken = [word for segment in segments for word in segment.words or ()]
        words += [Word(text, start + word.end) for word in spoken for text in bare(word.word).split()]
    return words


def delays(captions: Sequence[tuple[float, Caption]], words: Sequence[Word], *, stable: bool = False) -> list[float]:
    """From each word's end until it is shown and never changes again; words that come out otherwise are left out.

    Args:
        captions: with the seconds at which each came.
        words: as they were said.
        stable: count a word as shown only once it is called stable, or final.
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
    """The share of words in interim captions that the next caption of the utterance has otherwise."""
    before_and_after = [
        (bare(before.text).split(), bare(after.text).split())
        for history in by_utterance(captions)
        for (_, before), (_, after) in pairwise(history)
    ]
    count = sum(len(before) for before, _ in before_and_after)
    return sum(_changed(before, after) for before, after in before_and_after) / max(1, count)


def taken_back(captions: Sequence[tuple[float, Caption]]) -> int:
    """Words that were called stable and are not in the next caption of the utterance."""
    return sum(
        _changed(bare(before.stable).split(), bare(after.text).split())
        for history in by_utterance(captions)
        for (_, before), (_, after) in pairwise(history)
    )


def by_utterance(captions: Sequence[tuple[float, Caption]]) -> list[list[tuple[float, Caption]]]:
    """The captions of each utterance, in order."""
    histories: dict[int, list[tuple[float, Caption]]] = defaultdict(list)
    for at, caption in captions:
        histories[caption.utterance].append((at, caption))
    return list(histories.values())


def _since(texts: Sequence[tuple[float, Sequence[str]]], index: int, word: str) -> float:
    """From when on every text has this word there."""
    since = texts[-1][0]
    for at, text in reversed(texts):
        if index >= len(text) or text[index] != word:
            break
        since = at
    return since


def _changed(before: Sequence[str], after: Sequence[str]) -> int:
    """How many leading words differ, missing ones included."""
    return sum(old != new for old, new in zip(before, after, strict=False)) + max(0, len(before) - len(after))
