"""When each word of a caption was said: always the words of its text, in order, and within its range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.captioning import TimedWord
from af3stream.protocol.messages import Caption, CaptionUpdate, Word
from af3stream.session.hallucinations import bare
from af3stream.session.ledger import seconds


def fitted(words: Sequence[TimedWord], text: str, length: int) -> tuple[TimedWord, ...]:
    """Return the words of a displayed text with times.

    Words that the text left out are left out. A word that the text has in place of others has their time.

    Args:
        words: of what was heard, which the text may differ from; none: the captioner gave no times.
        length: of the caption, in samples; no time is beyond it.
    """
    if _letters(word.text for word in words) != _letters([text]):
        words = [*_carried(words, text.split())] if words else []
    fitting, before = list[TimedWord](), 0
    for word in words:
        start = min(max(word.start, before), length)
        before = min(max(word.end, start), length)
        fitting.append(TimedWord(word.text, start, before, word.probability))
    return tuple(fitting)


def shared_out(
    words: Sequence[TimedWord], texts: Sequence[str], ranges: Sequence[tuple[int, int]]
) -> list[tuple[TimedWord, ...]]:
    """Share the words of a second pass out to the captions that have its text.

    Args:
        words: with times from the beginning of the first caption.
        texts: of the captions, in order.
        ranges: start and end of each caption, in samples.

    Returns:
        The words of each caption, with times from its own beginning.
    """
    shares, at = list[tuple[TimedWord, ...]](), 0
    for text, (start, end) in zip(texts, ranges, strict=True):
        first, letters = at, len(_letters([text]))
        while at < len(words) and letters > 0:
            letters -= len(_letters([words[at].text]))
            at += 1
        offset = start - ranges[0][0]
        own = [TimedWord(w.text, w.start - offset, w.end - offset, w.probability) for w in words[first:at]]
        shares.append(fitted(own, text, end - start))
    return shares


def told(words: Sequence[TimedWord], start: int) -> tuple[Word, ...]:
    """Return the words of a caption that begins at this sample, as messages have them."""
    return tuple(
        Word(word.text, seconds(start + word.start), seconds(start + word.end), round(word.probability, 3))
        for word in words
    )


def kept(caption: Caption | CaptionUpdate) -> tuple[TimedWord, ...]:
    """Return the words of a message, as a captioner gives them: the opposite of `told`."""
    start = round(caption.start * SAMPLE_RATE)
    return tuple(
        TimedWord(
            word.text,
            round(word.start * SAMPLE_RATE) - start,
            round(word.end * SAMPLE_RATE) - start,
            word.probability,
        )
        for word in caption.words
    )


def _letters(texts: Sequence[str] | Iterator[str]) -> str:
    """Everything that is not white space."""
    return "".join("".join(text.split()) for text in texts)


def _carried(words: Sequence[TimedWord], text: Sequence[str]) -> Iterator[TimedWord]:
    """Give times to other words: equal words keep theirs, others share those of the words that they replace.

    A word that replaces none lies between its neighbours, and has the probability of the one before it.
    """
    matcher = SequenceMatcher(None, [bare(word.text) for word in words], [bare(word) for word in text], autojunk=False)
    for _, begin, end, first, last in matcher.get_opcodes():
        known = words[begin:end] or words[max(0, begin - 1) : begin + 1]
        if last - first == end - begin:
            for new, old in zip(text[first:last], known, strict=True):
                yield TimedWord(new, old.start, old.end, old.probability)
            continue
        earliest = known[0].end if begin == end > 0 else known[0].start
        latest = known[-1].end if end > begin else known[-1].start
        step = max(0, latest - earliest) // max(1, last - first)
        for i, new in enumerate(text[first:last]):
            yield TimedWord(new, earliest + i * step, earliest + (i + 1) * step, known[0].probability)
