"""What questions can hear: the closed windows within the horizon, their notes, and the open window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from af3stream.audio.events import Window
from af3stream.engine.contract import Capacity, Part, Sound, Text
from af3stream.engine.jobs import EncodeJob, ExtendJob
from af3stream.models.card import Notes
from af3stream.session.captions import Line

QUESTION_TOKENS: Final = 320  # positions kept for a question and the notes of the open window
KEEP: Final = 0.75  # of the horizon after it rolled; the rest is room until it rolls again


@dataclass(eq=False, slots=True)
class Entry:
    """A closed window. Positions are samples at 16 kHz.

    Attributes:
        sound: what the model hears of it.
        encoded: whether its embeddings are there.
        notes: its captions, once they are all final; ``None`` until then.
    """

    index: int
    start: int
    end: int
    sound: Sound
    encoded: bool = False
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """The parts that a question hears, and the range of samples they come from."""

    parts: tuple[Part, ...]
    start: int
    end: int
    windows: int


class Horizon:
    """The windows that questions can hear, oldest first, within the positions of the language model.

    Before the horizon is full, the oldest windows are left out of a prefix that is rebuilt beside the one in use; until
    that is done, answers hear the windows they heard before.

    Args:
        capacity: of one prompt.
        notes: which captions stand in the prompt beside the audio.
        notes_max_tokens: positions for the captions of forgotten windows.
        reply_tokens: positions for an answer.
        frames: projected frames of a number of samples.
        count: positions of a text.
    """

    def __init__(
        self,
        capacity: Capacity,
        notes: Notes,
        *,
        notes_max_tokens: int,
        reply_tokens: int,
        frames: Callable[[int], int],
        count: Callable[[str], int],
    ) -> None:
        self._notes_mode = notes
        self._notes_max_tokens = notes_max_tokens
        self._frames = frames
        self._count = count
        self._limit = capacity.positions - reply_tokens - QUESTION_TOKENS
        self._window_tokens = frames(capacity.window_samples)
        self._most = capacity.windows
        self._entries: list[Entry] = []
        self._closed_to = 0
        self._forgotten = ""
        self._leaving = 0  # oldest entries left out by the rebuild on its way
        self._extending: ExtendJob | None = None
        self._kept: tuple[Part, ...] = ()

    @property
    def oldest_unencoded(self) -> Entry | None:
        """The first closed window without embeddings."""
        return next((entry for entry in self._entries if not entry.encoded), None)

    @property
    def appending(self) -> bool:
        """Whether the prefix in use is being written to, so that no question can read it."""
        return self._extending is not None and not self._extending.rebuild

    @property
    def end(self) -> int:
        """Where the newest closed window ends."""
        return self._closed_to

    def close(self, window: Window) -> EncodeJob:
        """A window closed: the job that encodes it."""
        sound = Sound(window.samples, self._frames(len(window.samples)))
        self._closed_to = window.end
        self._entries.append(Entry(window.index, window.start, window.end, sound))
        return EncodeJob(window.index, sound)

    def encoded(self, job: EncodeJob) -> Entry:
        """A window's embeddings are there."""
        entry = next(entry for entry in self._entries if entry.sound is job.sound)
        entry.encoded = True
        return entry

    def drop(self, job: EncodeJob) -> None:
        """A window that could not be encoded is out of every question's reach."""
        self._entries = [entry for entry in self._entries if entry.sound is not job.sound]

    def settle(self, lines: Sequence[Line], final_before: int) -> None:
        """Take the final captions as notes of the windows that end before ``final_before``."""
        for previous, entry in zip([None, *self._entries], self._entries, strict=False):
            if entry.notes is None and entry.end <= final_before:
                after = previous.end if previous else -1
                entry.notes = " ".join(line.text for line in lines if after < line.end <= entry.end)

    def next_extend(self) -> ExtendJob | None:
        """The job that brings the kept prefix up to date, where one is due and none is on its way."""
        if self._extending is not None:
            return None
        if self._entries and self._full():
            self._leaving = self._surplus()
        parts = self._ready()
        if parts == self._kept:
            return None
        self._extending = ExtendJob(parts, rebuild=bool(self._leaving))
        return self._extending

    def extended(self, job: ExtendJob) -> None:
        """The kept prefix is up to date, or could not be brought there and is read again by the next question."""
        if job is not self._extending:
            return
        self._forgotten = self._notes_forgotten()
        del self._entries[: self._leaving]
        self._leaving = 0
        self._kept = job.parts
        self._extending = None

    def body(self, since: int, tail: tuple[Sound, int, int] | None, tail_notes: str) -> Body | None:
        """What a question hears now: the windows that reach beyond ``since``, and the open one.

        Args:
            since: position before which nothing is asked about; 0 for everything.
            tail: the open window as heard so far, with its start and end.
            tail_notes: captions of what no closed window holds.

        Returns:
            ``None`` where nothing was heard there.
        """
        entries = [entry for entry in self._entries if entry.end > since]
        if tail and tail[2] <= since:
            tail = None
        after = (tail[0],) if tail else ()
        notes = (Text(_note(tail_notes)),) if tail_notes and self._notes_mode == "all" else ()
        spent = sum(self._cost(part) for part in (*after, *notes))
        while entries and spent + self._tokens(entries) > self._limit:
            entries = entries[1:]
        if not entries and not tail:
            return None
        forgotten = self._forgotten if entries == self._entries else ""
        start = entries[0].start if entries else tail[1] if tail else 0
        end = tail[2] if tail else entries[-1].end
        return Body((*self._parts(entries, forgotten), *after, *notes), start, end, len(entries))

    def _ready(self) -> tuple[Part, ...]:
        """The parts that the kept prefix should hold: up to the first window that is not encoded and noted."""
        ready: list[Entry] = []
        for entry in self._entries[self._leaving :]:
            unfinished = not entry.encoded or (entry.notes is None and self._notes_mode == "all")
            if unfinished or self._tokens([*ready, entry]) > self._limit:
                break
            ready.append(entry)
        forgotten = self._notes_forgotten() if self._leaving else self._forgotten
        return self._parts(ready, forgotten)

    def _parts(self, entries: Sequence[Entry], forgotten: str) -> tuple[Part, ...]:
        parts: list[Part] = [Text(_note(forgotten))] if forgotten else []
        for entry in entries:
            parts.append(entry.sound)
            if self._notes_mode == "all" and entry.notes:
                parts.append(Text(_note(entry.notes)))
        return tuple(parts)

    def _full(self) -> bool:
        return len(self._entries) >= self._most or self._tokens(self._entries) + self._window_tokens > self._limit

    def _surplus(self) -> int:
        """How many of the oldest windows to leave out, of those that are ready; the newest always stays."""
        most, limit = max(1, int(KEEP * self._most)), KEEP * self._limit
        leaving = 0
        while leaving < len(self._entries) - 1 and self._entries[leaving].encoded:
            rest = self._entries[leaving:]
            if self._entries[leaving].notes is None or (len(rest) <= most and self._tokens(rest) <= limit):
                break
            leaving += 1
        return leaving

    def _notes_forgotten(self) -> str:
        """The newest captions of all forgotten windows, those leaving included, that fit their positions."""
        if self._notes_mode == "off":
            return ""
        words = " ".join([self._forgotten, *(entry.notes or "" for entry in self._entries[: self._leaving])]).split()
        while words and self._count(_note(" ".join(words))) > self._notes_max_tokens:
            del words[: 1 + len(words) // 10]
        return " ".join(words)

    def _tokens(self, entries: Sequence[Entry]) -> int:
        return sum(self._cost(part) for part in self._parts(entries, self._forgotten))

    def _cost(self, part: Part) -> int:
        return part.tokens if isinstance(part, Sound) else self._count(part.text)


def _note(words: str) -> str:
    return f"Transcript: {words}\n"
