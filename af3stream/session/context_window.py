"""The windows that questions can hear: the KV prefix, closed windows that are not in it yet, and the open window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from af3stream.audio.events import Window
from af3stream.engine.contract import AudioSegment, Capacity, Instructions, PromptPart
from af3stream.engine.jobs import AnswerJob, EncodeJob, ExtendJob
from af3stream.engine.prompt_parts import instructions_of, shared
from af3stream.models.card import Frames, Notes
from af3stream.session.caption_line import CaptionLine
from af3stream.session.closed_window import ClosedWindow, Extension, PrefixLayout, PrefixStatus
from af3stream.session.prompt_body import (
    PromptBody,
    SampleRange,
    SelectedWindow,
    Selection,
    UnreadWindow,
    coverage,
    parts_of,
    samples_of,
    uncaptioned,
)

QUESTION_TOKENS: Final = 256  # positions reserved for a question
KEEP: Final = 0.75  # of the context window stays when it rolls; the rest is room until it rolls again
COUNTED: Final = 2_048  # texts whose positions are cached: more than the captions of a context window


class ContextWindow:
    """The newest windows that fit into the positions of the language model, oldest first.

    The KV prefix holds the instructions, the captions of evicted windows, then closed windows whose captions are final.
    With notes `all`, each window's captions follow its audio, or stand in its place if the model hears uncaptioned
    sound alone. So the prefix only grows at its end, and each window is read once. A prompt is the prefix, then what
    `Selection` chooses of the windows that are not in it.

    Before the context window is full, it rolls: a prefix without the oldest windows is built beside the one in use.
    Until that is done, prompts begin with the prefix in use. With other instructions, all windows are read again, and
    prompts have what is read already.

    Attributes:
        resident: windows whose embeddings the engine has, as it last said.
        captions_replace_audio: whether a window that its captions describe stands without its audio.
        settled_to: the position up to which every caption is a note of a window, or of no use.

    Args:
        capacity: of one prompt.
        notes: which captions stand in the prompt beside the audio.
        frames: which windows stand in the prompt as audio.
        notes_max_tokens: positions for the captions of evicted windows.
        reply_tokens: positions for an answer.
        read_tokens: positions that a question may read beside the KV prefix.
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
        self.captions_replace_audio = notes == "all" and frames == "uncaptioned"
        self._notes = notes
        self._notes_max_tokens, self._read_tokens = notes_max_tokens, read_tokens
        self._tokens = tokens
        count = lru_cache(maxsize=COUNTED)(count)
        self._layout = PrefixLayout(notes, count)
        self._selection = Selection(notes, not self.captions_replace_audio, count)
        self._window_tokens = tokens(capacity.window_samples)
        self._positions = capacity.positions - reply_tokens - QUESTION_TOKENS
        self._by_windows = (capacity.windows + 1) * self._window_tokens + notes_max_tokens  # one more is open
        self._instructions: Instructions | None = None
        self._windows: list[ClosedWindow] = []
        self._closed_to = 0
        self.settled_to = 0
        self._evicted_notes: tuple[CaptionLine, ...] = ()
        self._prefix: tuple[PromptPart, ...] = ()
        self._read = 0  # how many of the oldest windows are in the prefix
        self._status = PrefixStatus.IDLE
        self._extension: Extension | None = None  # while extending or rebuilding

    # ---- windows -----------------------------------------------------------------------------------------------------

    @property
    def start(self) -> int:
        """Where the oldest window begins that questions can hear, in samples."""
        return self._windows[0].start if self._windows else self._closed_to

    @property
    def oldest_pending(self) -> ClosedWindow | None:
        """The first closed window whose audio is still to be encoded, or to be decided about."""
        return next((window for window in self._windows if window.pending), None)

    def close(self, window: Window) -> ClosedWindow:
        """Add a window that closed."""
        sound = AudioSegment(window.start, window.end, self._tokens(len(window.samples)))
        self._closed_to = window.end
        self._windows.append(ClosedWindow(window.index, window.start, window.end, sound, window.samples))
        return self._windows[-1]

    def encoded(self, job: EncodeJob) -> ClosedWindow:
        """Take the news that a window is encoded; returns the window."""
        window = next(window for window in self._windows if window.sound == job.segment)
        window.encoded()
        return window

    def drop(self, job: EncodeJob) -> None:
        """Take the news that a window could not be encoded. It stands as its captions, or without notes not at all."""
        window = next((window for window in self._windows if window.sound == job.segment), None)
        if window is not None:
            window.drop_audio()
        if window is not None and self._notes == "off":
            before = self._windows[: self._windows.index(window)]
            if all(other.captioned for other in before):
                self.settled_to = max(self.settled_to, window.end)
            self._windows.remove(window)

    def settle(self, lines: Sequence[CaptionLine], final_before: int) -> list[ClosedWindow]:
        """Take final captions as the notes of the windows that end before a position; returns those windows.

        If captions replace audio, a window's captions decide now whether it is encoded.

        Args:
            lines: final captions after `settled_to`, in order.
        """
        settled = []
        for window in self._windows:
            if not window.captioned and window.end < final_before:
                window.take_notes(line for line in lines if self.settled_to < line.end <= window.end)
                self.settled_to = max(self.settled_to, window.end)
                if self.captions_replace_audio:
                    captioned = ((line.start, line.end) for line in lines)
                    if not uncaptioned(window.start, window.end, captioned):
                        window.drop_audio()
                settled.append(window)
        return settled

    def positions(self, window: ClosedWindow) -> int:
        """Return the positions that a window takes in the KV prefix."""
        return window.sound.tokens if window.sound else self._layout.cost(self._layout.parts(window))

    def restore(self, job: EncodeJob) -> None:
        """Take a closed window back from the journal: it is encoded when it is read."""
        self._status = PrefixStatus.COLD
        self.encoded(job)

    # ---- the KV prefix -----------------------------------------------------------------------------------------------

    def instruct(self, text: str) -> None:
        """Begin every prompt with these instructions, or with the checkpoint's own if they are empty."""
        instructions = Instructions(text) if text else None
        if instructions != self._instructions:
            self._instructions = instructions
            self._prefix, self._read = (), 0

    @property
    def _limit(self) -> int:
        """Positions of a prompt's body after its instructions."""
        return min(self._positions - self._layout.cost(self._lead), self._by_windows)

    @property
    def _lead(self) -> tuple[PromptPart, ...]:
        """What every body begins with."""
        return (self._instructions,) if self._instructions else ()

    def start_reading(self) -> None:
        """Read windows into the KV prefix from now on. After a restore that waits for the first question."""
        if self._status is PrefixStatus.COLD:
            self._status = PrefixStatus.IDLE

    def next_extend(self) -> ExtendJob | None:
        """Begin the job that brings the KV prefix up to date; ``None`` if none is due, or one is on its way.

        Each job adds one window, so that questions have it early. A rebuild adds all that were read.
        """
        if self._status is PrefixStatus.COLD:
            self.trim()
        if self._status is not PrefixStatus.IDLE:
            return None
        evicted = self._surplus()
        staying, notes = self._windows[evicted:], self._evicted_notes_after(evicted)
        ready = self._layout.readable(staying, notes, self._limit)
        already = reading = min(max(0, self._read - evicted), ready)
        parts = self._lead + self._layout.compose(staying[:reading], notes)
        while parts == self._prefix and reading < ready:
            reading += 1
            parts = self._lead + self._layout.compose(staying[:reading], notes)
        if parts == self._prefix:
            return None
        rebuild = bool(evicted) and not shared(parts, self._prefix)
        added = staying[already:reading]
        captions_only = bool(added) and not rebuild and all(window.sound is None for window in added)
        keep_from = staying[0].start if evicted else 0
        job = ExtendJob(parts, rebuild, captions_only, keep_from)
        self._extension = Extension(job, evicted, reading)
        self._status = PrefixStatus.REBUILDING if rebuild else PrefixStatus.EXTENDING
        return job

    def extended(self, job: ExtendJob) -> None:
        """Take the news that the KV prefix is extended. If that failed, the next question finds out."""
        if (extension := self._extension) is None or extension.job is not job:
            return
        self._evict(extension.evicted)
        if instructions_of(job.parts) == self._instructions:
            self._prefix, self._read = job.parts, extension.windows
        self._extension, self._status = None, PrefixStatus.IDLE

    def lost(self, job: AnswerJob) -> None:
        """Take the news that an answer's KV prefix was evicted: it is read again, unless it was replaced."""
        if job.parts[: job.prefix] == self._prefix:
            self._prefix, self._read = (), 0

    def trim(self) -> None:
        """Evict the oldest windows at once if the context window is full and nothing is read yet."""
        self._evict(self._surplus())

    # ---- prompts -----------------------------------------------------------------------------------------------------

    def prompt(
        self,
        since: int,
        opened: UnreadWindow | None,
        lines: Sequence[CaptionLine],
        question_tokens: int,
        uncaptioned: Sequence[SampleRange] = (),
    ) -> tuple[PromptBody | None, PromptBody | None]:
        """Compose what a question reads now, and what it reads if the KV prefix turns out to be evicted.

        Args:
            since: position from which on the question asks; 0 for everything.
            opened: the open window so far, without its captions.
            lines: captions after `settled_to`, partial ones included.
            question_tokens: positions of the question and of the turns before it.
            uncaptioned: ranges of speech that have no captions yet.

        Returns:
            ``None`` if nothing was heard in the range, and for the second if no prefix is used.
        """
        room = self._limit - max(0, question_tokens - QUESTION_TOKENS)
        windows = [window for window in self._windows if window.end > since]
        unread = [self._unread(window, lines, uncaptioned) for window in windows]
        if opened and opened.end > since:
            of_open = tuple(line for line in lines if line.end > self._closed_to)
            unread.append(replace(opened, lines=of_open))
        if self._notes == "off":
            selected, _ = self._selection.choose(unread, room)
            while selected and self._layout.cost(parts_of(selected)) > room:
                selected = selected[1:]
            return self._body(selected, ()), None
        alone = self._body(self._selection.choose(unread, min(room, self._read_tokens))[0], uncaptioned)
        of_windows = self._prefix[len(self._lead) :]
        left = min(room - self._layout.cost(of_windows), self._read_tokens)
        if not of_windows or len(windows) < len(self._windows) or left < 0:
            return alone, None
        selected, complete = self._selection.choose(unread[self._read :], left)
        return self._after_prefix(selected, complete, uncaptioned), alone

    def _unread(
        self, window: ClosedWindow, lines: Sequence[CaptionLine], spoken: Sequence[SampleRange]
    ) -> UnreadWindow:
        notes = window.notes
        if not window.captioned:
            begin = max((other.end for other in self._windows if other.end <= window.start), default=0)
            notes = tuple(line for line in lines if begin < line.end <= window.end)
        ready = window.sound in self.resident
        return UnreadWindow(window.start, window.end, window.sound, notes, tuple(spoken), ready=ready)

    def _body(self, selected: Sequence[SelectedWindow], uncaptioned: Sequence[SampleRange]) -> PromptBody | None:
        if not selected:
            return None
        covered = coverage(selected, (), uncaptioned, self._closed_to)
        return PromptBody(self._lead + parts_of(selected), covered, samples=samples_of(selected))

    def _after_prefix(
        self, selected: Sequence[SelectedWindow], complete: bool, uncaptioned: Sequence[SampleRange]
    ) -> PromptBody:
        """Compose a prompt of the KV prefix and selected windows; ``complete``: no caption between them is missing."""
        read = self._windows[: self._read]
        captions: list[CaptionLine] = []
        if complete or not any(each.lines for each in selected):
            of_windows = read if self._notes == "all" else []
            captions = [*self._evicted_notes, *(line for window in of_windows for line in window.notes)]
        everything = [*(window.in_prefix() for window in read), *selected]
        covered = coverage(everything, captions, uncaptioned, self._closed_to)
        return PromptBody(self._prefix + parts_of(selected), covered, len(self._prefix), samples_of(selected))

    # ---- eviction ----------------------------------------------------------------------------------------------------

    def _surplus(self) -> int:
        """Return how many of the oldest windows to evict now; the newest always stays."""
        full = (
            self._layout.cost(self._layout.compose(self._windows, self._evicted_notes)) + self._window_tokens
            > self._limit
        )
        evicted = 0
        while full and evicted < len(self._windows) - 1:
            oldest, rest = self._windows[evicted], self._windows[evicted:]
            kept = self._layout.cost(self._layout.compose(rest, self._evicted_notes_after(evicted)))
            if oldest.pending or oldest.unnamed or not oldest.captioned or kept <= KEEP * self._limit:
                break
            evicted += 1
        return evicted

    def _evict(self, count: int) -> None:
        """Drop the oldest windows; their captions stay as far as the budget allows."""
        self._evicted_notes = self._evicted_notes_after(count)
        del self._windows[:count]

    def _evicted_notes_after(self, count: int) -> tuple[CaptionLine, ...]:
        """Return the captions of evicted windows once so many more are: the newest that fit."""
        if self._notes == "off" or not count:
            return self._evicted_notes
        lines = [line for window in self._windows[:count] for line in window.notes]
        return self._selection.fitting([*self._evicted_notes, *lines], self._notes_max_tokens)
