"""What was said in one session, utterance by utterance, and as files."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from af3stream.protocol.messages import Caption
from af3stream.subtitles import cues, to_srt, to_vtt
from clients.captions.formatting import clock

SUFFIXES: Final = (".vtt", ".srt", ".txt")


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance as it reads now.

    Attributes:
        utterance: its number.
        start, end: seconds of audio.
        text: its words; none where they were taken back.
        solid: how many leading characters will not change any more.
        final: whether none will.
    """

    utterance: int
    start: float
    end: float
    text: str
    stable_chars: int
    final: bool


class Transcript:
    """Utterances in their order, whatever order their captions come in.

    Attributes:
        saved: whether a file holds all there is.
    """

    def __init__(self) -> None:
        self.saved = True
        self._lines: dict[int, Line] = {}
        self._order: list[int] = []

    @property
    def lines(self) -> list[Line]:
        """All that was said."""
        return [self._lines[number] for number in self._order]

    def add(self, caption: Caption) -> Line | None:
        """Take in a caption; returns how its utterance reads now, or ``None`` where that is settled already."""
        known = self._lines.get(caption.utterance)
        if known and known.final:
            return None
        text = caption.text.strip()
        stable = caption.stable.strip()
        stable_chars = len(text) if caption.final else len(stable) if text.startswith(stable) else 0
        line = Line(caption.utterance, caption.start, caption.end, text, stable_chars, caption.final)
        if not text:
            self._remove(caption.utterance)
        else:
            if not known:
                insort(self._order, caption.utterance)
            self._lines[caption.utterance] = line
            self.saved = False
        return line

    def index(self, utterance: int) -> int:
        """How many utterances come before this one."""
        return bisect_left(self._order, utterance)

    def save(self, path: Path) -> None:
        """Write what was said so far, the open utterance as it reads now, as ``path``'s suffix says.

        Raises:
            OSError: where it cannot be written.
            ValueError: for a suffix that is not one of :data:`SUFFIXES`.
        """
        if path.suffix.lower() not in WRITERS:
            raise ValueError(f"captions are saved as {', '.join(SUFFIXES)}, and {path.name} is none of these")
        path.write_text(WRITERS[path.suffix.lower()](self.lines), encoding="utf-8")
        self.saved = True

    def _remove(self, utterance: int) -> None:
        if self._lines.pop(utterance, None):
            self._order.remove(utterance)


def plain(lines: list[Line]) -> str:
    """One line of text an utterance, behind the time at which it begins."""
    return "".join(f"{clock(line.start)}  {line.text}\n" for line in lines)


def _captions(lines: list[Line]) -> list[Caption]:
    return [Caption(line.utterance, line.text, line.start, line.end, line.final) for line in lines]


WRITERS: Final[dict[str, Callable[[list[Line]], str]]] = {
    ".vtt": lambda lines: to_vtt(cues(_captions(lines))),
    ".srt": lambda lines: to_srt(cues(_captions(lines))),
    ".txt": plain,
}
