"""What questions can hear: the closed windows within the horizon, their notes, and the open window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile
from typing import Final

from af3stream.audio.events import Window
from af3stream.engine.contract import AudioSegment, Capacity, PromptPart, Samples, shared
from af3stream.engine.jobs import AnswerJob, EncodeJob, ExtendJob
from af3stream.models.card import Frames, Notes
from af3stream.session.body import (
    Body,
    Piece,
    Reach,
    Selection,
    Shown,
    Stretch,
    has_uncaptioned_sound,
    parts_of,
    samples_of,
    transcript,
)
from af3stream.session.caption_track import CaptionLine

QUESTION_TOKENS: Final = 256  # positions kept for a question
KEEP: Final = 0.75  # of the horizon after it rolled; the rest is room until it rolls again
COUNTED: Final = 2_048  # texts whose positions are remembered: more than the captions of a horizon


@dataclass(eq=False, slots=True)
class Entry:
    """A closed window. Positions are samples at 16 kHz.

    Attributes:
        sound: what the model hears of it; ``None`` where it stands as its captions alone.
        samples: float32 (n,), until there is a job that encodes them.
        encoded: whether its embeddings are there.
        notes: its captions, once they are all final; ``None`` until then.
    """

    index: int
    start: int
    end: int
    sound: AudioSegment | None
    samples: Samples | None = None
    encoded: bool = False
    notes: tuple[CaptionLine, ...] | None = None

    @property
    def pending(self) -> bool:
        """Whether it is still to be encoded, or to be decided whether it is."""
        return self.sound is not None and not self.encoded


class ContextWindow:
    """The windows that questions can hear, oldest first, within the positions of the language model.

    The kept prefix is the words of the windows that fell off, then each closed window whose captions are final, one
    after the other. Where notes are `all`, each window's captions follow its sound, or stand in its place where the
    model's frames are for uncaptioned sound alone; so the prefix only grows at its end and is read once. A question
    reads the prefix, and of what is not in it yet what `Selection` chooses.

    Before the horizon is full, the oldest windows are left out of a prefix that is rebuilt beside the one in use; until
    that is done, answers hear the windows they heard before.

    Attributes:
        resident: windows whose embeddings the engine has; the engine says so.

    Args:
        capacity: of one prompt.
        notes: which captions stand in the prompt beside the audio.
        frames: which windows stand in the prompt as audio.
        notes_max_tokens: positions for those of windows that fell off.
        reply_tokens: positions for an answer.
        read_tokens: positions that a question reads of what is not in the kept prefix.
        tokens: projected frames of a number of samples.
        count: positions of a text.
    """

    def __init__(
        self,
        capacity: Capacity,
        notes: Notes,
        frames: Frames = "all",
        *,
        notes_max_tokens: int,
        reply_tokens: int,
        read_tokens: int,
        tokens: Callable[[int], int],
        count: Callable[[str], int],
    ) -> None:
        self.resident: frozenset[AudioSegment] = frozenset()
        self.carried_by_captions = notes == "all" and frames == "uncaptioned"
        self._mode = notes
        self._notes_max_tokens = notes_max_tokens
        self._read_tokens = read_tokens
        self._tokens = tokens
        self._count = lru_cache(maxsize=COUNTED)(count)
        self._selection = Selection(notes, not self.carried_by_captions, self._count)
        self._window_tokens = tokens(capacity.window_samples)
        by_windows = (capacity.windows + 1) * self._window_tokens + notes_max_tokens  # one more is open
        self._limit = min(capacity.positions - reply_tokens - QUESTION_TOKENS, by_windows)
        self._entries: list[Entry] = []
        self._closed_to = 0
        self._settled_to = 0  # captions up to here are notes of some window
        self._forgotten: tuple[CaptionLine, ...] = ()
        self._leaving = 0  # oldest entries left out by the rebuild on its way
        self._extending: ExtendJob | None = None
        self._kept: tuple[PromptPart, ...] = ()
        self._read = self._reading = 0  # oldest entries in the kept prefix, and in the one on its way
        self._cold = False  # restored, and not asked about since: nothing is read ahead of a question

    # ---- windows -----------------------------------------------------------------------------------------------------

    @property
    def oldest_pending(self) -> Entry | None:
        """The first closed window that is still to be encoded, or to be decided about."""
        return next((entry for entry in self._entries if entry.pending), None)

    @property
    def settled_to(self) -> int:
        """Captions up to here belong to a closed window for good."""
        return self._settled_to

    def close(self, window: Window) -> Entry:
        """A window closed."""
        sound = AudioSegment(window.start, window.end, self._tokens(len(window.samples)))
        self._closed_to = window.end
        entry = Entry(window.index, window.start, window.end, sound, window.samples)
        self._entries.append(entry)
        return entry

    def encode(self, entry: Entry) -> EncodeJob:
        """The job that encodes a window."""
        assert entry.sound is not None and entry.samples is not None, "a window is encoded once"
        samples, entry.samples = entry.samples, None
        return EncodeJob(entry.index, entry.sound, samples)

    @property
    def start(self) -> int:
        """Where the oldest window begins that questions can hear."""
        return self._entries[0].start if self._entries else self._closed_to

    def encoded(self, job: EncodeJob) -> Entry:
        """A window's embeddings are there."""
        entry = next(entry for entry in self._entries if entry.sound == job.segment)
        entry.encoded = True
        return entry

    def drop(self, job: EncodeJob) -> None:
        """A window could not be encoded: it stands as its captions, or is out of every question's reach."""
        entry = next((entry for entry in self._entries if entry.sound == job.segment), None)
        if entry is None:
            return
        entry.sound = None
        if self._mode == "off":
            self._entries.remove(entry)

    def settle(self, lines: Sequence[CaptionLine], final_before: int) -> list[Entry]:
        """Take the final captions as notes of the windows that end before ``final_before``, which are returned.

        Those that captions carry have no sound from now on, where the model hears others only.
        """
        settled = []
        for entry in self._entries:
            if entry.notes is None and entry.end < final_before:
                entry.notes = tuple(line for line in lines if self._settled_to < line.end <= entry.end)
                self._settled_to = entry.end
                captioned = ((line.start, line.end) for line in lines)
                if self.carried_by_captions and not has_uncaptioned_sound(entry.start, entry.end, captioned):
                    entry.sound = entry.samples = None
                settled.append(entry)
        return settled

    def positions(self, entry: Entry) -> int:
        """Positions that a window takes in the kept prefix."""
        return entry.sound.tokens if entry.sound else self._cost(self._parts(entry))

    def restore(self, job: EncodeJob) -> None:
        """A closed window came back from the journal: it is encoded when it is read."""
        self._cold = True
        self.encoded(job)

    # ---- the kept prefix ---------------------------------------------------------------------------------------------

    def next_extend(self) -> ExtendJob | None:
        """The job that brings the kept prefix up to date, where one is due and none is on its way.

        A window a job, so that questions have the use of each; a rebuild brings back what was read.
        """
        if self._extending is not None or self._cold:
            return None
        if self._entries and self._full():
            self._leaving = self._surplus()
        staying, forgotten = self._entries[self._leaving :], self._forgotten_after(self._leaving)
        ready = self._ready(staying, forgotten)
        already = reading = min(max(0, self._read - self._leaving), ready)
        parts = self._compose(staying[:reading], forgotten)
        while parts == self._kept and reading < ready:
            reading += 1
            parts = self._compose(staying[:reading], forgotten)
        if parts == self._kept:
            return None
        self._reading = reading
        beside = bool(self._leaving) and not shared(parts, self._kept)
        added = staying[already:reading]
        captions_only = bool(added) and not beside and all(entry.sound is None for entry in added)
        keep_from = staying[0].start if self._leaving else 0
        self._extending = ExtendJob(parts, beside, captions_only, keep_from)
        return self._extending

    def extended(self, job: ExtendJob) -> None:
        """The kept prefix is up to date, or could not be brought there, which the next question finds out."""
        if job is not self._extending:
            return
        self._forgotten = self._forgotten_after(self._leaving)
        del self._entries[: self._leaving]
        self._leaving = 0
        self._kept, self._read = job.parts, self._reading
        self._extending = None

    def lost(self, job: AnswerJob) -> None:
        """The engine has not got the prefix of an answer: it is read again, unless another one took its place."""
        if job.parts[: job.prefix] == self._kept:
            self._kept, self._read = (), 0

    def trim(self) -> None:
        """Leave the oldest windows out at once, where the horizon is full and nothing is read yet."""
        if self._entries and self._full():
            leaving = self._surplus()
            self._forgotten = self._forgotten_after(leaving)
            del self._entries[:leaving]

    # ---- questions ---------------------------------------------------------------------------------------------------

    def bodies(
        self,
        since: int,
        opened: Piece | None,
        words: Sequence[CaptionLine],
        asked: int,
        wordless: Sequence[Stretch] = (),
    ) -> tuple[Body | None, Body | None]:
        """What a question reads now, and what it reads if the kept prefix is gone.

        Args:
            since: position before which nothing is asked about; 0 for everything.
            opened: the open window as heard so far; its captions are added here.
            words: captions that are notes of no window yet, and interim ones.
            asked: positions of the question and the turns before it; more than usual leave less room.
            wordless: stretches of speech whose captions are still to come: holes between those that are there.

        Returns:
            ``None`` where nothing was heard there, and where no prefix is used.
        """
        self._cold = False
        room = self._limit - max(0, asked - QUESTION_TOKENS)
        entries = [entry for entry in self._entries if entry.end > since]
        pieces = [self._piece(entry, words) for entry in entries]
        if opened and opened.end > since:
            lines = tuple(line for line in words if line.end > self._closed_to)
            pieces.append(replace(opened, lines=lines))
        everything = len(entries) == len(self._entries)
        if self._mode == "off":
            return self._whole(pieces, room), None
        alone = self._body(self._selection.choose(pieces, min(room, self._read_tokens))[0], wordless)
        left = min(room - self._cost(self._kept), self._read_tokens)
        if not (everything and self._kept) or left < 0:
            return alone, None
        return self._after_prefix(*self._selection.choose(pieces[self._read :], left), wordless), alone

    def _piece(self, entry: Entry, words: Sequence[CaptionLine]) -> Piece:
        index = self._entries.index(entry)
        begin = self._entries[index - 1].end if index else 0
        lines = entry.notes
        if lines is None:
            lines = tuple(line for line in words if begin < line.end <= entry.end)
        ready = entry.sound in self.resident
        return Piece(entry.start, entry.end, entry.sound, lines, ready=ready)

    def _whole(self, pieces: Sequence[Piece], room: int) -> Body | None:
        """Every window in full, the oldest left out where they do not fit."""
        shown, _ = self._selection.choose(pieces, room)
        while shown and self._cost(parts_of(shown)) > room:
            shown = shown[1:]
        return self._body(shown)

    def _body(self, shown: Sequence[Shown], wordless: Sequence[Stretch] = ()) -> Body | None:
        if not shown:
            return None
        return Body(parts_of(shown), self._reach(shown, (), wordless), samples=samples_of(shown))

    def _after_prefix(self, shown: Sequence[Shown], complete: bool, wordless: Sequence[Stretch]) -> Body:
        before = [line for entry in self._entries[: self._read] for line in entry.notes or ()]
        captions = [*self._forgotten, *before] if self._mode == "all" else self._forgotten
        read = [
            Shown(Piece(entry.start, entry.end, entry.sound, ()), entry.sound is not None, (), True)
            for entry in self._entries[: self._read]
        ]
        has_lines = any(each.lines for each in shown)
        reach = self._reach([*read, *shown], captions if complete or not has_lines else (), wordless)
        return Body(self._kept + parts_of(shown), reach, len(self._kept), samples_of(shown))

    def _reach(self, shown: Sequence[Shown], before: Sequence[CaptionLine], wordless: Sequence[Stretch]) -> Reach:
        """What an answer is made of; ``before``: captions in the prompt before those that are shown."""
        heard = [each.piece.end for each in shown if each.heard]
        lines = [*before, *(line for each in shown for line in each.lines)]
        holes = [end for start, end in wordless if lines and start < lines[-1].start]
        run = [line for line in lines if line.start >= max(holes, default=0)]
        start, end = (shown[0].piece.start, shown[-1].piece.end) if shown else (lines[0].start, lines[-1].end)
        closed = sum(each.piece.end <= self._closed_to for each in shown)
        return Reach(
            start,
            end,
            closed,
            max(heard, default=None),
            run[0].start if run else None,
            max((line.end for line in run), default=None),
        )

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _ready(self, staying: Sequence[Entry], forgotten: tuple[CaptionLine, ...]) -> int:
        """How many of these windows the kept prefix should hold: up to the first that something is still to come of."""
        ready = list(takewhile(lambda entry: not entry.pending, self._settled(staying)))
        while ready and self._cost(self._compose(ready, forgotten)) > self._limit:
            ready.pop()
        return len(ready)

    def _settled(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The oldest windows of which nothing is still to come."""
        return takewhile(lambda entry: self._mode != "all" or entry.notes is not None, entries)

    def _compose(self, entries: Iterable[Entry], forgotten: Sequence[CaptionLine]) -> tuple[PromptPart, ...]:
        """A prefix of these windows: the parts in the order in which the model reads them."""
        parts: list[PromptPart] = [transcript(forgotten)] if forgotten else []
        for entry in entries:
            parts += self._parts(entry)
        return tuple(parts)

    def _parts(self, entry: Entry) -> list[PromptPart]:
        """A window, and its captions where they stand beside it, or in its place."""
        parts: list[PromptPart] = [entry.sound] if entry.sound else []
        if entry.notes and (self._mode == "all" or not (entry.sound or self._mode == "off")):
            parts.append(transcript(entry.notes))
        return parts

    def _full(self) -> bool:
        return self._cost(self._compose(self._entries, self._forgotten)) + self._window_tokens > self._limit

    def _surplus(self) -> int:
        """How many of the oldest windows to leave out, of those that are ready; the newest always stays."""
        leaving = 0
        while leaving < len(self._entries) - 1:
            oldest, rest = self._entries[leaving], self._entries[leaving:]
            kept = self._cost(self._compose(rest, self._forgotten_after(leaving)))
            if oldest.pending or oldest.notes is None or kept <= KEEP * self._limit:
                break
            leaving += 1
        return leaving

    def _forgotten_after(self, leaving: int) -> tuple[CaptionLine, ...]:
        """The captions of all windows that fell off, once the ``leaving`` oldest have: the newest that fit."""
        if self._mode == "off" or not leaving:
            return self._forgotten
        left = [line for entry in self._entries[:leaving] for line in entry.notes or ()]
        return self._selection.fitting([*self._forgotten, *left], self._notes_max_tokens)

    def _cost(self, parts: Sequence[PromptPart]) -> int:
        return sum(part.tokens if isinstance(part, AudioSegment) else self._count(part.text) for part in parts)
