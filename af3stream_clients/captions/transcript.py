"""Transcript of one session by utterance, and its export to files."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from af3stream.protocol.messages import Caption, CaptionUpdate
from af3stream.subtitles import cues, to_srt, to_vtt
from af3stream_clients.captions.formatting import clock

SUFFIXES: Final = (".vtt", ".srt", ".txt")


@dataclass(frozen=True, slots=True)
class Line:
    """The current text of one utterance.

    Attributes:
        utterance: its number.
        start, end: seconds of audio.
        text: its text; empty if the server withdrew it.
        stable_chars: how many leading characters do not change any more.
        final: whether no character changes any more.
    """

    utterance: int
    start: float
    end: float
    text: str
    stable_chars: int
    final: bool


class Transcript:
    """Utterances in order, whichever order their captions arrive in.

    Attributes:
        saved: whether a file holds the whole transcript.
    """

    def __init__(self) -> None:
        self.saved = True
        self._lines: dict[int, Line] = {}
        self._order: list[int] = []

    @property
    def lines(self) -> list[Line]:
        """All utterances, in order."""
        return [self._lines[number] for number in self._order]

    def add(self, caption: Caption) -> Line | None:
        """Add a caption; return its utterance as it is now, or ``None`` if that is final already."""
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

    def correct(self, update: CaptionUpdate) -> Line | None:
        """Replace the words of a final caption; return its line, or ``None`` if the utterance is unknown."""
        if update.utterance not in self._lines:
            return None
        text = update.text.strip()
        line = Line(update.utterance, update.start, update.end, text, len(text), True)
        if text:
            self._lines[update.utterance] = line
        else:
            self._remove(update.utterance)
        self.saved = False
        return line

    def index(self, utterance: int) -> int:
        """Return how many utterances come before this one."""
        return bisect_left(self._order, utterance)

    def save(self, path: Path) -> None:
        """Write the transcript so far, including the open utterance, in the format of ``path``'s suffix.

        Raises:
            OSError: if the file cannot be written.
            ValueError: for a suffix that is not one of ``SUFFIXES``.
        """
        if path.suffix.lower() not in WRITERS:
            raise ValueError(f"captions are saved as {', '.join(SUFFIXES)}, and {path.name} is none of these")
        path.write_text(WRITERS[path.suffix.lower()](self.lines), encoding="utf-8")
        self.saved = True

    def _remove(self, utterance: int) -> None:
        if self._lines.pop(utterance, None):
            self._order.remove(utterance)


def plain(lines: list[Line]) -> str:
    """Format one line for each utterance: start time and text."""
    return "".join(f"{clock(line.start)}  {line.text}\n" for line in lines)


def _captions(lines: list[Line]) -> list[Caption]:
    return [Caption(line.utterance, line.text, line.start, line.end, line.final) for line in lines]


WRITERS: Final[dict[str, Callable[[list[Line]], str]]] = {
    ".vtt": lambda lines: to_vtt(cues(_captions(lines))),
    ".srt": lambda lines: to_srt(cues(_captions(lines))),
    ".txt": plain,
}
