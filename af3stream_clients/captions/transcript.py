"""Transcript of one session by utterance, with who speaks, and its export to files."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from af3stream.protocol.messages import Caption, CaptionUpdate, ServerMessage, SpeakerNamed, SpeakerUpdate
from af3stream.subtitles import Cue, cues, to_srt, to_vtt
from af3stream_clients.captions.formatting import clock
from af3stream_clients.speaker_names import SpeakerNames

SUFFIXES: Final = (".vtt", ".srt", ".txt")


@dataclass(frozen=True, slots=True)
class Line:
    """The current text of one utterance.

    Attributes:
        utterance: its number.
        start, end: seconds of audio.
        text: its text; empty if the server withdrew it.
        stable_chars: how many leading characters do not change any more.
        final: whether no character changes any more, except by a correction.
        translation: the text in English; empty if there is none.
        speaker: number of the speaker; ``None`` if it is not known.
        name: the speaker's name, or ``Speaker 1``; empty if it is not known who speaks.
        begins_turn: whether another speaker, or nobody known, spoke the utterance before.
    """

    utterance: int
    start: float
    end: float
    text: str
    stable_chars: int
    final: bool
    translation: str = ""
    speaker: int | None = None
    name: str = ""
    begins_turn: bool = False

    @property
    def named_text(self) -> str:
        """The text, after the speaker's name if it is known who speaks."""
        return f"{self.name}: {self.text}" if self.name else self.text


class Transcript:
    """Utterances in order, whichever order their captions arrive in.

    Attributes:
        saved: whether a file holds the whole transcript.
    """

    def __init__(self) -> None:
        self.saved = True
        self._lines: dict[int, Line] = {}
        self._order: list[int] = []
        self._names = SpeakerNames()

    @property
    def lines(self) -> list[Line]:
        """All utterances, in order."""
        return [self._lines[number] for number in self._order]

    def receive(self, message: ServerMessage) -> list[Line]:
        """Apply a message; return the lines that changed. One without text was removed.

        A caption of an utterance that is final already changes nothing, nor does a correction of an unknown one.
        """
        match message:
            case Caption() if not ((known := self._lines.get(message.utterance)) and known.final):
                return self._put(_line(message))
            case CaptionUpdate() if message.utterance in self._lines:
                return self._put(_corrected(self._lines[message.utterance], message))
            case SpeakerUpdate() if message.utterance in self._lines:
                return self._put(replace(self._lines[message.utterance], speaker=message.speaker))
            case SpeakerNamed():
                self._names.receive(message)
                return self._label([number for number in self._order if self._lines[number].speaker == message.speaker])
        return []

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

    def _put(self, line: Line) -> list[Line]:
        """Add, replace or remove a line; return it, and the next one if another speaker precedes it now."""
        number, known = line.utterance, self._lines.pop(line.utterance, None)
        at = self.index(number)
        if not line.text:
            if known:
                self._order.remove(number)
                self.saved = False
            return [line, *self._label(self._order[at : at + 1])]
        if not known:
            insort(self._order, number)
        self.saved = False
        self._lines[number] = line
        self._label([number])
        return [self._lines[number], *self._label(self._order[at + 1 : at + 2])]

    def _label(self, numbers: list[int]) -> list[Line]:
        """Set who speaks in some lines, and return those that changed."""
        changed = []
        for number in numbers:
            line, at = self._lines[number], self.index(number)
            before = self._lines[self._order[at - 1]].speaker if at else None
            begins = line.speaker is not None and line.speaker != before
            labelled = replace(line, name=self._names.label(line.speaker), begins_turn=begins)
            if labelled != line:
                self._lines[number] = labelled
                self.saved = False
                changed.append(labelled)
        return changed


def plain(lines: list[Line]) -> str:
    """Format each utterance: start time, speaker and text, and its translation on a line of its own below."""
    return "".join(map(_plain, lines))


def _plain(line: Line) -> str:
    time = f"{clock(line.start)}  "
    below = f"{' ' * len(time)}{line.translation}\n" if line.translation else ""
    return f"{time}{line.named_text}\n{below}"


def _line(caption: Caption) -> Line:
    text, stable = caption.text.strip(), caption.stable.strip()
    stable_chars = len(text) if caption.final else len(stable) if text.startswith(stable) else 0
    return Line(
        caption.utterance,
        caption.start,
        caption.end,
        text,
        stable_chars,
        caption.final,
        caption.translation.strip(),
        caption.speaker,
    )


def _corrected(line: Line, update: CaptionUpdate) -> Line:
    text, translation = update.text.strip(), update.translation.strip()
    speaker = line.speaker if update.speaker is None else update.speaker
    return Line(update.utterance, update.start, update.end, text, len(text), True, translation, speaker)


def _cues(lines: list[Line]) -> list[Cue]:
    """Return the cues of lines, with the speakers' names and the translations."""
    captions = [
        Caption(line.utterance, line.text, line.start, line.end, line.final, translation=line.translation)
        for line in lines
    ]
    names = {line.utterance: line.name for line in lines}
    return cues(captions, lambda caption: names[caption.utterance])


WRITERS: Final[dict[str, Callable[[list[Line]], str]]] = {
    ".vtt": lambda lines: to_vtt(_cues(lines)),
    ".srt": lambda lines: to_srt(_cues(lines)),
    ".txt": plain,
}
