"""A closed window on its way into the KV prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Final

from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, PromptPart, Text
from af3stream.engine.jobs import EncodeJob, ExtendJob
from af3stream.models.card import Notes
from af3stream.session.caption_line import CaptionLine
from af3stream.session.prompt_body import SelectedWindow, UnreadWindow, transcript

NO_TEXT: Final = Text("")


class WindowStatus(Enum):
    """What of a closed window is still to come."""

    CLOSED = "closed"  # its audio is not encoded, or not decided about, and its captions may change
    ENCODED = "encoded"  # its captions may change
    CAPTIONED = "captioned"  # its audio is not encoded
    READABLE = "readable"  # nothing is to come


@dataclass(eq=False, slots=True)
class ClosedWindow:
    """A closed window. Positions are samples at 16 kHz.

    Attributes:
        sound: its audio; ``None`` once it stands as its captions alone.
        samples: float32 (n,) of its audio, until a job has them.
        status: changed by the methods alone.
        notes: its captions, once they are final.
        transcript: the notes as they stand in a prompt.
        unnamed: how many stretches of it are still to be asked for the name of their sound.
    """

    index: int
    start: int
    end: int
    sound: AudioSegment | None
    samples: Samples | None = None
    status: WindowStatus = WindowStatus.CLOSED
    notes: tuple[CaptionLine, ...] = ()
    transcript: Text = NO_TEXT
    unnamed: int = 0

    @property
    def pending(self) -> bool:
        """Whether its audio is still to be encoded, or to be decided about."""
        return self.status in (WindowStatus.CLOSED, WindowStatus.CAPTIONED)

    @property
    def captioned(self) -> bool:
        """Whether its captions are final."""
        return self.status in (WindowStatus.CAPTIONED, WindowStatus.READABLE)

    def encode_job(self) -> EncodeJob:
        """Return the job that encodes its audio."""
        assert self.sound is not None and self.samples is not None, "a window is encoded once"
        samples, self.samples = self.samples, None
        return EncodeJob(self.index, self.sound, samples)

    def encoded(self) -> None:
        """Note that its audio is encoded, or dropped."""
        self.status = WindowStatus.READABLE if self.captioned else WindowStatus.ENCODED

    def drop_audio(self) -> None:
        """Let it stand as its captions alone."""
        self.sound = self.samples = None
        self.encoded()

    def take_notes(self, lines: Iterable[CaptionLine]) -> None:
        """Take its final captions."""
        self.status = WindowStatus.CAPTIONED if self.pending else WindowStatus.READABLE
        self.notes = tuple(lines)
        self.transcript = transcript(self.notes)

    def name_sound(self, line: CaptionLine) -> None:
        """Take the name of a sound as one of its captions, before it is read."""
        self.notes = tuple(sorted((*self.notes, line), key=lambda note: note.start))
        self.transcript = transcript(self.notes)

    def in_prefix(self) -> SelectedWindow:
        """Return it as it stands in the KV prefix; the captions there are counted apart."""
        window = UnreadWindow(self.start, self.end, self.sound, ())
        return SelectedWindow(window, self.sound is not None, (), True)


class PrefixStatus(Enum):
    """What happens to the KV prefix."""

    COLD = "cold"  # the session was restored; windows are read from the first question on
    IDLE = "idle"
    EXTENDING = "extending"
    REBUILDING = "rebuilding"  # beside the prefix in use


@dataclass(frozen=True, slots=True)
class Extension:
    """A change of the KV prefix that the engine works on.

    Attributes:
        evicted: how many of the oldest windows it leaves out.
        windows: how many of those that stay are in the prefix after it.
    """

    job: ExtendJob
    evicted: int
    windows: int


class PrefixLayout:
    """Which parts of closed windows stand in a KV prefix, and the positions they take.

    Args:
        notes: which captions stand in the prompt beside the audio.
        count: positions of a text.
    """

    def __init__(self, notes: Notes, count: Callable[[str], int]) -> None:
        self._notes = notes
        self._count = count

    def parts(self, window: ClosedWindow) -> list[PromptPart]:
        """Return a window's audio, and its captions if they stand beside it or in its place."""
        parts: list[PromptPart] = [window.sound] if window.sound else []
        if window.notes and (self._notes == "all" or not (window.sound or self._notes == "off")):
            parts.append(window.transcript)
        return parts

    def compose(self, windows: Iterable[ClosedWindow], evicted: Sequence[CaptionLine]) -> tuple[PromptPart, ...]:
        """Return the parts of a prefix: the captions of evicted windows, then these windows."""
        parts: list[PromptPart] = [transcript(evicted)] if evicted else []
        for window in windows:
            parts += self.parts(window)
        return tuple(parts)

    def cost(self, parts: Iterable[PromptPart]) -> int:
        """Return the positions that parts take."""
        return sum(part.tokens if isinstance(part, AudioSegment) else self._count(part.text) for part in parts)

    def readable(self, windows: Sequence[ClosedWindow], evicted: Sequence[CaptionLine], limit: int) -> int:
        """Return how many of these windows a prefix of ``limit`` positions holds.

        It ends before the first window whose audio or captions are still to come.
        """
        complete = list(takewhile(self._is_complete, windows))
        while complete and self.cost(self.compose(complete, evicted)) > limit:
            complete.pop()
        return len(complete)

    def _is_complete(self, window: ClosedWindow) -> bool:
        noted = window.captioned and not window.unnamed
        return not window.pending and (noted or self._notes != "all")
