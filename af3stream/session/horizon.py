"""What questions can hear: the closed windows within the horizon, their notes, and the open window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Final

from af3stream.audio.events import Window
from af3stream.engine.contract import Capacity, Part, Sound, note
from af3stream.engine.jobs import EncodeJob, ExtendJob
from af3stream.models.card import Notes
from af3stream.session.captions import Line

QUESTION_TOKENS: Final = 256  # positions kept for a question
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
    notes: tuple[Line, ...] | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """The parts that a question hears, and the range of samples they come from.

    Attributes:
        settled: leading parts that every later body of everything begins with, too.
    """

    parts: tuple[Part, ...]
    start: int
    end: int
    windows: int
    settled: int


class Horizon:
    """The windows that questions can hear, oldest first, within the positions of the language model.

    A body is the words of the windows that fell off, then each window, and then the open one. Where notes are `all`,
    each window's captions follow its sound, so that the body only ever grows at its end and is read once.

    The kept prefix is the closed windows whose captions are final. Before the horizon is full, the oldest windows are
    left out of a prefix that is rebuilt beside the one in use; until that is done, answers hear the windows they heard
    before.

    Args:
        capacity: of one prompt.
        notes: which captions stand in the prompt beside the audio.
        notes_max_tokens: positions for those of windows that fell off.
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
        self._mode = notes
        self._notes_max_tokens = notes_max_tokens
        self._frames = frames
        self._count = lru_cache(maxsize=256)(count)
        self._window_tokens = frames(capacity.window_samples)
        by_windows = (capacity.windows + 1) * self._window_tokens + notes_max_tokens  # one more is open
        self._limit = min(capacity.positions - reply_tokens - QUESTION_TOKENS, by_windows)
        self._entries: list[Entry] = []
        self._closed_to = 0
        self._settled_to = 0  # captions up to here are notes of some window
        self._forgotten = ""
        self._leaving = 0  # oldest entries left out by the rebuild on its way
        self._extending: ExtendJob | None = None
        self._kept: tuple[Part, ...] = ()
        self._cold = False  # restored, and not asked about since: nothing is read ahead of a question

    @property
    def oldest_unencoded(self) -> Entry | None:
        """The first closed window without embeddings."""
        return next((entry for entry in self._entries if not entry.encoded), None)

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
        for entry in self._entries:
            if entry.notes is None and entry.end < final_before:
                entry.notes = tuple(line for line in lines if self._settled_to < line.end <= entry.end)
                self._settled_to = entry.end

    def next_extend(self) -> ExtendJob | None:
        """The job that brings the kept prefix up to date, where one is due and none is on its way."""
        if self._extending is not None or self._cold:
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
        self._forgotten = self._forgotten_after(self._leaving)
        del self._entries[: self._leaving]
        self._leaving = 0
        self._kept = job.parts
        self._extending = None

    def restore(self, job: EncodeJob) -> None:
        """A closed window came back from the journal: it is encoded when a question wants it."""
        self._cold = True
        self.encoded(job)

    def trim(self) -> None:
        """Leave the oldest windows out at once, where the horizon is full and nothing is read yet."""
        if self._entries and self._full():
            leaving = self._surplus()
            self._forgotten = self._forgotten_after(leaving)
            del self._entries[:leaving]

    def body(self, since: int, tail: tuple[Sound, int, int] | None, newest: Sequence[Line], asked: int) -> Body | None:
        """What a question hears now: the windows that reach beyond ``since``, and the open one.

        Args:
            since: position before which nothing is asked about; 0 for everything.
            tail: the open window as heard so far, with its start and end.
            newest: captions of what no closed window holds, and interim words.
            asked: positions of the question; a long one hears less.

        Returns:
            ``None`` where nothing was heard there.
        """
        self._cold = False
        entries = [entry for entry in self._entries if entry.end > since]
        if tail and tail[2] <= since:
            tail = None
        opened = self._noted(tail[0], newest) if tail else ()

        def compose() -> tuple[Part, ...]:
            forgotten = self._forgotten if len(entries) == len(self._entries) else ""
            return self._compose(entries, forgotten) + opened

        limit = self._limit - max(0, asked - QUESTION_TOKENS)
        while entries and self._cost(compose()) > limit:
            entries = entries[1:]
        if not entries and not tail:
            return None
        start = entries[0].start if entries else tail[1] if tail else 0
        whole = len(entries) == len(self._entries) and not self._leaving
        settled = self._compose(self._settled(entries), self._forgotten) if whole else ()
        return Body(compose(), start, tail[2] if tail else entries[-1].end, len(entries), len(settled))

    def _ready(self) -> tuple[Part, ...]:
        """The parts that the kept prefix should hold: up to the first window that something is still to come of."""
        staying = self._entries[self._leaving :]
        forgotten = self._forgotten_after(self._leaving)
        ready = list(takewhile(lambda entry: entry.encoded, self._settled(staying)))
        while ready and self._cost(self._compose(ready, forgotten)) > self._limit:
            ready.pop()
        return self._compose(ready, forgotten)

    def _settled(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The oldest windows of which nothing is still to come."""
        return takewhile(lambda entry: self._mode != "all" or entry.notes is not None, entries)

    def _compose(self, entries: Iterable[Entry], forgotten: str) -> tuple[Part, ...]:
        """A body of these windows: the parts in the order in which the model reads them."""
        parts: list[Part] = [note([forgotten])] if forgotten else []
        for entry in entries:
            parts += self._noted(entry.sound, entry.notes or ())
        return tuple(parts)

    def _noted(self, sound: Sound, lines: Sequence[Line]) -> tuple[Part, ...]:
        """A window, and its captions where they stand beside it."""
        if not lines or self._mode != "all":
            return (sound,)
        return sound, note(line.text for line in lines)

    def _full(self) -> bool:
        return self._cost(self._compose(self._entries, self._forgotten)) + self._window_tokens > self._limit

    def _surplus(self) -> int:
        """How many of the oldest windows to leave out, of those that are ready; the newest always stays."""
        leaving = 0
        while leaving < len(self._entries) - 1:
            oldest, rest = self._entries[leaving], self._entries[leaving:]
            kept = self._cost(self._compose(rest, self._forgotten_after(leaving)))
            if not oldest.encoded or oldest.notes is None or kept <= KEEP * self._limit:
                break
            leaving += 1
        return leaving

    def _forgotten_after(self, leaving: int) -> str:
        """The words of all windows that fell off, once the ``leaving`` oldest have."""
        if self._mode == "off" or not leaving:
            return self._forgotten
        left = [line.text for entry in self._entries[:leaving] for line in entry.notes or ()]
        return self._fitting([self._forgotten, *left])

    def _fitting(self, notes: Sequence[str]) -> str:
        """The newest words that fit the positions for notes."""
        words = " ".join(each for each in notes if each).split(" ")
        while words and self._count(note([" ".join(words)]).text) > self._notes_max_tokens:
            del words[: 1 + len(words) // 10]
        return " ".join(words)

    def _cost(self, parts: Sequence[Part]) -> int:
        return sum(part.tokens if isinstance(part, Sound) else self._count(part.text) for part in parts)
