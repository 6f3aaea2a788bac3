"""What a question's prompt holds beside the KV prefix: captions first, then audio, the newest windows first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, PromptPart, Text
from af3stream.engine.prompt_parts import caption_line, note
from af3stream.models.card import Notes
from af3stream.session.caption_line import CaptionLine
from af3stream.session.ledger import seconds

UNCAPTIONED: Final = 3 * SAMPLE_RATE  # a longer hole between captions is a sound; a pause between sentences is shorter

SampleRange = tuple[int, int]  # start and end, samples at 16 kHz


@dataclass(frozen=True, slots=True)
class UnreadWindow:
    """A window that is not in the KV prefix, closed or open. Positions are samples at 16 kHz.

    Attributes:
        sound: its audio; ``None`` if it stands as its captions alone.
        lines: its captions; partial ones where there are no final ones yet.
        spoken: ranges of speech whose captions are still to come.
        ready: whether its embeddings exist; otherwise it must be encoded before it can be read.
        samples: float32 (n,), of the open window alone.
    """

    start: int
    end: int
    sound: AudioSegment | None
    lines: tuple[CaptionLine, ...]
    spoken: tuple[SampleRange, ...] = ()
    ready: bool = True
    samples: Samples | None = None

    @property
    def tokens(self) -> int:
        """Positions of its audio."""
        return self.sound.tokens if self.sound else 0


@dataclass(frozen=True, slots=True)
class SelectedWindow:
    """What of a window stands in a prompt.

    Attributes:
        as_audio: whether its audio does.
        lines: which of its captions do.
        complete: whether no caption is missing that the prompt needs.
    """

    window: UnreadWindow
    as_audio: bool
    lines: tuple[CaptionLine, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which part of the session a prompt covers. Positions are samples at 16 kHz.

    Attributes:
        start, end: of the windows in the prompt.
        windows: how many of them are closed.
        heard_until: where the last audio ends.
        captions_from, captioned_until: the newest captions without a hole.
    """

    start: int
    end: int
    windows: int
    heard_until: int | None
    captions_from: int | None
    captioned_until: int | None


@dataclass(frozen=True, slots=True)
class PromptBody:
    """The parts of a prompt before the question.

    Attributes:
        prefix: how many leading parts are in the KV prefix.
        samples: float32 (n,) of the open window, if its audio stands in the prompt.
    """

    parts: tuple[PromptPart, ...]
    coverage: Coverage
    prefix: int = 0
    samples: Mapping[AudioSegment, Samples] = field(default_factory=dict)

    def beside(self, words: Text) -> PromptBody:
        """Return the body with words after it, right before the question; unchanged if they are empty."""
        return replace(self, parts=(*self.parts, words)) if words.text else self


def transcript(lines: Iterable[CaptionLine]) -> Text:
    """Return captions as they stand in a prompt."""
    return note(
        caption_line(line.text, seconds(line.start), speaker=speaker_label(line.speaker) if line.speaker else None)
        for line in lines
    )


def speaker_label(speaker: int) -> str:
    """Return a speaker as it stands in a prompt: by number, so that a name changes nothing that was read."""
    return f"Speaker {speaker}"


def uncaptioned(start: int, end: int, captioned: Iterable[SampleRange]) -> list[SampleRange]:
    """Return the whole of a range if it has no caption at all, else its holes of more than 3 s between captions."""
    within = sorted((max(start, a), min(end, b)) for a, b in captioned if a < end and b > start)
    holes, reached = list[SampleRange](), start
    for a, b in [*within, (end, end)]:
        if a - reached > UNCAPTIONED:
            holes.append((reached, a))
        reached = max(reached, b)
    return holes if within else [(start, end)]


def samples_of(selected: Iterable[SelectedWindow]) -> dict[AudioSegment, Samples]:
    """Return the samples of the open window, if its audio is selected."""
    windows = [each.window for each in selected if each.as_audio]
    return {window.sound: window.samples for window in windows if window.sound and window.samples is not None}


def parts_of(selected: Iterable[SelectedWindow]) -> tuple[PromptPart, ...]:
    """Return the parts of selected windows, in the order in which the model reads them."""
    parts: list[PromptPart] = []
    for each in selected:
        if each.as_audio and each.window.sound:
            parts.append(each.window.sound)
        if each.lines:
            parts.append(transcript(each.lines))
    return tuple(parts)


def coverage(
    selected: Sequence[SelectedWindow],
    before: Sequence[CaptionLine],
    uncaptioned: Sequence[SampleRange],
    closed_to: int,
) -> Coverage:
    """Return what a prompt covers.

    Args:
        selected: the windows in the prompt, those of the KV prefix included.
        before: captions in the prompt before those of ``selected``.
        uncaptioned: ranges of speech whose captions are still to come; captions before one are not counted.
        closed_to: where the newest closed window ends.
    """
    heard = [each.window.end for each in selected if each.as_audio]
    lines = [*before, *(line for each in selected for line in each.lines)]
    holes = [end for start, end in uncaptioned if lines and start < lines[-1].start]
    run = [line for line in lines if line.start >= max(holes, default=0)]
    spans = [each.window for each in selected] or lines
    return Coverage(
        start=spans[0].start,
        end=spans[-1].end,
        windows=sum(each.window.end <= closed_to for each in selected),
        heard_until=max(heard, default=None),
        captions_from=run[0].start if run else None,
        captioned_until=max((line.end for line in run), default=None),
    )


class Selection:
    """Selects what a prompt holds of the windows that are not in the KV prefix.

    Captions come first. Audio is added where captions do not describe a window, and where positions are left. Speech
    whose captions are still to come takes no positions that captions of older windows need. Without notes every window
    stands as audio.

    Args:
        notes: which captions stand in the prompt beside the audio.
        audio_if_captioned: whether windows that captions describe are added as audio, too, if positions are left.
        count: positions of a text.
    """

    def __init__(self, notes: Notes, audio_if_captioned: bool, count: Callable[[str], int]) -> None:
        self._notes = notes
        self._audio_if_captioned = audio_if_captioned
        self._count = count

    def choose(self, windows: Sequence[UnreadWindow], positions: int) -> tuple[list[SelectedWindow], bool]:
        """Select the newest of these windows that fit so many positions; something always stands.

        Args:
            windows: oldest first.

        Returns:
            What stands in the prompt, and whether no caption is left out.
        """
        if self._notes == "off":
            return [SelectedWindow(window, True, (), True) for window in windows if window.sound], True
        selected: list[SelectedWindow] = []
        captioned = self._notes == "all" and any(window.lines for window in windows)
        for window in reversed(windows):
            captions_first = captioned and (bool(window.lines) or _is_speech(window))
            fits = window.ready and window.tokens <= positions
            alone = not (selected or window.lines)
            as_audio = not captions_first and self._needs_audio(window) and (fits or alone)
            positions -= window.tokens if as_audio else 0
            lines = () if as_audio and self._notes == "forgotten" else self.fitting(window.lines, positions)
            if not (as_audio or lines or any(each.as_audio or each.lines for each in selected)):
                lines = window.lines[-1:]
            positions -= self.cost(lines)
            complete = lines == window.lines or (as_audio and self._notes == "forgotten")
            selected.insert(0, SelectedWindow(window, as_audio, lines, complete))
            if not complete:
                break
        all_complete = len(selected) == len(windows) and all(each.complete for each in selected)
        selected = self._with_audio(selected, positions)
        return [each for each in selected if each.as_audio or each.lines], all_complete

    def fitting(self, lines: Sequence[CaptionLine], positions: int) -> tuple[CaptionLine, ...]:
        """Return the newest captions that fit so many positions."""
        first = len(lines)
        while first and (positions := positions - self.cost(lines[first - 1 : first])) >= 0:
            first -= 1
        return tuple(lines[first:])

    def cost(self, lines: Sequence[CaptionLine]) -> int:
        """Return the positions of captions."""
        return sum(self._count(transcript([line]).text) for line in lines)

    def _with_audio(self, selected: Sequence[SelectedWindow], positions: int) -> list[SelectedWindow]:
        """Add the audio of the newest windows, up to the first that does not fit."""
        more: list[SelectedWindow] = []
        for each in reversed(selected):
            window = each.window
            useful = self._audio_if_captioned or self._needs_audio(window)
            wanted = useful and each.complete and not each.as_audio and window.sound is not None
            added = wanted and window.ready and window.tokens <= positions
            if added:
                positions -= window.tokens
            elif wanted:
                positions = 0
            more.insert(0, replace(each, as_audio=each.as_audio or added))
        return more

    def _needs_audio(self, window: UnreadWindow) -> bool:
        """Return whether captions alone do not describe a window."""
        if window.sound is None:
            return False
        if self._notes == "forgotten" or not window.lines:
            return True
        return not _is_speech(window)


def _is_speech(window: UnreadWindow) -> bool:
    """Return whether captions describe a window, or will."""
    captioned = [*((line.start, line.end) for line in window.lines), *window.spoken]
    return not uncaptioned(window.start, window.end, captioned)
