"""Split final captions into readable cues, and write them as subtitles. Times are seconds of audio, exact to 1 ms."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Final

from af3stream.protocol.messages import Caption

VTT_HEADER: Final = "WEBVTT\n\n"
LINE_CHARS: Final = 42
LONGEST_MS: Final = 7_000
SHORTEST_MS: Final = 1_000  # if the next cue leaves room
READING_CHARS_S: Final = 20  # the same; how fast adults read subtitles (Netflix, Timed Text Style Guide)
PAUSE_MS: Final = 300  # of a speaker; as good a place to break as the end of a clause
SENTENCE_END: Final = tuple(".?!…。？！")
CLAUSE_END: Final = tuple(",;:—–，、；：")
CLOSING: Final = "\"')]}”’»"  # may follow the punctuation at the end of a sentence
CLAUSE_COST, WORD_COST = 0.25, 0.5  # relative to half a cue: how far from the middle a better place may be


@dataclass(frozen=True, slots=True)
class Cue:
    """At most two lines of text, and below them those of its translation, shown from ``start`` to ``end`` seconds.

    Attributes:
        speaker: who says them; empty: not known.
        begins: whether the caption begins with this cue, so that SubRip names the speaker.
    """

    start: float
    end: float
    text: str
    speaker: str = ""
    begins: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class _Word:
    """A word, or as much of one as fits into a line, and the time it was spoken in."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Piece:
    """The words of one cue, and the time in which they were spoken.

    Attributes:
        below: the lines of its translation.
    """

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    speaker: str = ""
    begins: bool = True
    below: tuple[str, ...] = ()

    @property
    def least_ms(self) -> int:
        """How long it is to be shown if there is room."""
        return max(SHORTEST_MS, sum(map(len, self.lines)) * 1_000 // READING_CHARS_S)


@dataclass(frozen=True, slots=True)
class _Half:
    """A place to split words in two: before the word ``cut``, with the characters before and after it.

    Attributes:
        last: the word before the place.
        pause_ms: between the two words.
        shorter_ms: from the beginning of the first part to that of the second, or from there to the end, if less.
    """

    cut: int
    before: int
    after: int
    last: str
    pause_ms: int
    shorter_ms: int

    @property
    def cost(self) -> float:
        """The cost of the split: its distance from the middle, and what it separates."""
        distance = abs(self.before - self.after) / (self.before + self.after)
        if self.last.endswith(SENTENCE_END):
            return distance
        is_clause = self.last.endswith(CLAUSE_END) or self.pause_ms >= PAUSE_MS
        return distance + (CLAUSE_COST if is_clause else WORD_COST)


def speaker_number(caption: Caption) -> str:
    """Return the speaker of a caption as ``Speaker 1``; empty if it has none."""
    return f"Speaker {caption.speaker}" if caption.speaker else ""


def cues(finals: Iterable[Caption], speaker: Callable[[Caption], str] = speaker_number) -> list[Cue]:
    """Split final captions, in the order of their arrival, into readable cues.

    A caption that exceeds two lines of 42 characters or 7 s is split near its middle: at the end of a sentence, else of
    a clause or at a pause, else of a word. A cue is shown while its words are said; the time of a caption without word
    times is divided by characters. A cue lasts at least 1 s, and as long as it takes to read it at 20 characters a
    second, if the next one leaves room. Cues do not overlap, and every character except white space is kept. The words
    of a translation stand below those of the caption, divided among its cues by the length of their texts.

    Args:
        speaker: returns who says a caption; empty: nobody is named.
    """
    pieces = [piece for caption in finals for piece in pieces_of(caption, speaker(caption))]
    return timed(pieces, floor_ms=0, until_ms=None)


def to_vtt(cues: Iterable[Cue]) -> str:
    """Return the text of a WebVTT file."""
    return VTT_HEADER + "".join(map(vtt_block, cues))


def to_srt(cues: Iterable[Cue]) -> str:
    """Return the text of a SubRip file."""
    return "".join(srt_block(cue, number) for number, cue in enumerate(cues, start=1))


def vtt_block(cue: Cue) -> str:
    """Return a cue as WebVTT has it, with the empty line after it."""
    voice = f"<v {_escaped(cue.speaker)}>" if cue.speaker else ""
    return f"{_stamp(cue.start, '.')} --> {_stamp(cue.end, '.')}\n{voice}{_escaped(cue.text)}\n\n"


def _escaped(text: str) -> str:
    """Return text as WebVTT has it; this also removes "-->"."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def srt_block(cue: Cue, number: int) -> str:
    """Return a cue as SubRip has it, with the empty line after it; ``number`` counts from 1."""
    name = f"{cue.speaker}: " if cue.speaker and cue.begins else ""
    return f"{number}\n{_stamp(cue.start, ',')} --> {_stamp(cue.end, ',')}\n{name}{cue.text}\n\n"


def _stamp(seconds: float, point: str) -> str:
    minutes, ms = divmod(milliseconds(seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1_000:02}{point}{ms % 1_000:03}"


def milliseconds(seconds: float) -> int:
    """Return a time as it stands in a file."""
    return round(seconds * 1_000)


def timed(pieces: Sequence[Piece], *, floor_ms: int, until_ms: int | None) -> list[Cue]:
    """Return cues from ``floor_ms`` on; each ends before the next begins, and the last before ``until_ms``."""
    timed: list[Cue] = []
    for index, piece in enumerate(pieces):
        start = max(piece.start_ms, floor_ms)
        following = pieces[index + 1].start_ms if index + 1 < len(pieces) else until_ms
        end = min(max(piece.end_ms, start + piece.least_ms), start + LONGEST_MS)
        if following is not None:
            end = min(end, max(following, start + 1))  # a cue without duration would be invalid
        text = "\n".join((*piece.lines, *piece.below))
        timed.append(Cue(start / 1_000, end / 1_000, text, piece.speaker, piece.begins))
        floor_ms = end
    return timed


def pieces_of(caption: Caption, speaker: str) -> list[Piece]:
    """Return the pieces of a caption, each with the part of its translation; none for a caption without text."""
    pieces = _broken(_words(caption))
    below = _divided(_runs(caption.translation), [sum(map(len, piece.lines)) for piece in pieces])
    return [
        replace(piece, speaker=speaker, begins=piece is pieces[0], below=tuple(_wrapped(part)))
        for piece, part in zip(pieces, below, strict=True)
    ]


def _divided(texts: list[str], shares: list[int]) -> list[list[str]]:
    """Divide texts into as many parts as there are shares, in proportion to these."""
    whole = sum(shares)
    cuts = [0, *(round(len(texts) * end / whole) for end in accumulate(shares))]
    return [texts[begin:end] for begin, end in pairwise(cuts)]


def _wrapped(texts: list[str]) -> list[str]:
    """Fill lines with texts. Each text fits into one line."""
    return textwrap.wrap(" ".join(texts), LINE_CHARS, break_on_hyphens=False)


def _runs(text: str) -> list[str]:
    """Return what is between white space; a run that is longer than a line is split into pieces of a line."""
    return [run[at : at + LINE_CHARS] for run in text.split() for at in range(0, len(run), LINE_CHARS)]


def _words(caption: Caption) -> list[_Word]:
    """Return the words, or as much of one as fits into a line, with their times."""
    texts = _runs(caption.text)
    letters = [(letter, word) for word in caption.words for letter in "".join(word.text.split())]
    if "".join(texts) == "".join(letter for letter, _ in letters):
        ends = [*accumulate(map(len, texts), initial=0)]
        return [
            _Word(text, max(0, milliseconds(letters[first][1].start)), max(0, milliseconds(letters[end - 1][1].end)))
            for text, (first, end) in zip(texts, pairwise(ends), strict=True)
        ]
    start_ms = max(0, milliseconds(caption.start))
    duration_ms, chars = max(start_ms, milliseconds(caption.end)) - start_ms, sum(map(len, texts)) + len(texts)
    bounds = [*accumulate((len(text) + 1 for text in texts), initial=0)]
    times_ms = [start_ms + round(duration_ms * bound / chars) for bound in bounds] if texts else []
    return [_Word(text, *times) for text, times in zip(texts, pairwise(times_ms), strict=True)]


def _broken(words: list[_Word]) -> list[Piece]:
    """Split the words into as many pieces as needed, by halves."""
    if not words:
        return []
    lines, start_ms, end_ms = _lines(words), words[0].start_ms, words[-1].end_ms
    if lines and (end_ms - start_ms <= LONGEST_MS or len(words) == 1):
        return [Piece(start_ms, end_ms, lines)]
    halves = _halves(words)
    roomy = [half for half in halves if half.shorter_ms >= SHORTEST_MS]
    cut = min(roomy or halves, key=lambda half: half.cost).cut
    return _broken(words[:cut]) + _broken(words[cut:])


def _lines(words: list[_Word]) -> tuple[str, ...]:
    """Return the words in one or two lines; nothing if they do not fit."""
    texts = [word.text for word in words]
    if len(line := " ".join(texts)) <= LINE_CHARS:
        return (line,)
    fitting = [half for half in _halves(words) if max(half.before, half.after) <= LINE_CHARS]
    if not fitting:
        return ()
    cut = min(fitting, key=lambda half: half.cost).cut
    return " ".join(texts[:cut]), " ".join(texts[cut:])


def _halves(words: list[_Word]) -> list[_Half]:
    """Return every place between two words."""
    ends = list(accumulate(len(word.text) + 1 for word in words))
    return [
        _Half(
            cut,
            end - 1,
            ends[-1] - end - 1,
            before.text.rstrip(CLOSING),
            after.start_ms - before.end_ms,
            min(after.start_ms - words[0].start_ms, words[-1].end_ms - after.start_ms),
        )
        for cut, (end, (before, after)) in enumerate(zip(ends, pairwise(words), strict=False), start=1)
    ]
