"""What a question reads: the kept prefix, and of what is not in it as much as is read in time, the newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.contract import AudioSegment, PromptPart, Text, caption_line, note
from af3stream.models.card import Notes
from af3stream.session.caption_track import CaptionLine
from af3stream.session.ledger import seconds

UNCAPTIONED: Final = 3 * SAMPLE_RATE  # more in a row is a sound of its own; a pause between sentences is shorter

Stretch = tuple[int, int]  # start and end, samples at 16 kHz


@dataclass(frozen=True, slots=True)
class Piece:
    """A window that is not in the kept prefix, closed or open. Positions are samples at 16 kHz.

    Attributes:
        sound: what the model would hear of it; ``None``: it stands as its captions alone.
        lines: its captions, interim ones where there are no final ones yet.
        spoken: stretches whose captions are still to come.
        ready: whether it can be heard at once; otherwise it has to be encoded first.
    """

    start: int
    end: int
    sound: AudioSegment | None
    lines: tuple[CaptionLine, ...]
    spoken: tuple[Stretch, ...] = ()
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Shown:
    """What stands of a piece in a prompt.

    Attributes:
        whole: whether all captions of it do, or it is heard and needs none.
    """

    piece: Piece
    heard: bool
    lines: tuple[CaptionLine, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """What an answer is made of. Positions are samples at 16 kHz.

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
class Body:
    """The parts that a question reads.

    Attributes:
        prefix: leading parts that the kept prefix holds.
    """

    parts: tuple[PromptPart, ...]
    reach: Reach
    prefix: int = 0

    def beside(self, words: Text) -> Body:
        """Return the body with words after it, right before the question; none if they are empty."""
        return replace(self, parts=(*self.parts, words)) if words.text.strip() else self


def transcript(lines: Iterable[CaptionLine]) -> Text:
    """Captions as they stand in a prompt."""
    return note(
        caption_line(line.text, seconds(line.start), speaker=speaker_label(line.speaker) if line.speaker else None)
        for line in lines
    )


def speaker_label(speaker: int) -> str:
    """A speaker in a prompt: by number, so that a name changes nothing that was read."""
    return f"Speaker {speaker}"


def has_uncaptioned_sound(start: int, end: int, captioned: Iterable[Stretch]) -> bool:
    """Whether captions leave out more than 3 s in a row of a stretch, or all of it."""
    within = sorted((max(start, a), min(end, b)) for a, b in captioned if a < end and b > start)
    reached = start
    for a, b in [*within, (end, end)]:
        if a - reached > UNCAPTIONED:
            return True
        reached = max(reached, b)
    return not within


class Selection:
    """Chooses what is shown of the windows that are not in the kept prefix.

    Captions stand in for windows; a window is heard where they cannot, and where there is room for both. Without notes
    nothing can stand in for a window: all are heard.

    Args:
        notes: which captions stand in the prompt beside the audio.
        heard_if_captioned: whether windows that captions carry are heard, too, where there is room.
        count: positions of a text.
    """

    def __init__(self, notes: Notes, heard_if_captioned: bool, count: Callable[[str], int]) -> None:
        self._notes = notes
        self._heard_if_captioned = heard_if_captioned
        self._count = count

    def choose(self, pieces: Sequence[Piece], room: int) -> tuple[list[Shown], bool]:
        """Of pieces, oldest first, the newest that fit so many positions; the newest of all is never left out.

        Returns:
            What is shown, and whether it leaves out no captions.
        """
        if self._notes == "off":
            return [Shown(piece, True, (), True) for piece in pieces if piece.sound], True
        shown: list[Shown] = []
        for piece in reversed(pieces):
            stands_in = bool(piece.lines) and self._notes == "all"  # captions first: audio has what room is left
            heard = self._needs_hearing(piece) and (
                (piece.ready and _tokens(piece) <= room and not stands_in) or not (shown or piece.lines)
            )
            room -= _tokens(piece) if heard else 0
            lines = () if heard and self._notes == "forgotten" else self.fitting(piece.lines, room)
            if not (shown or heard or lines):
                lines = piece.lines[-1:]
            room -= self.cost(lines)
            whole = lines == piece.lines or (heard and self._notes == "forgotten")
            shown.insert(0, Shown(piece, heard, lines, whole))
            if not whole:
                break
        complete = len(shown) == len(pieces) and all(each.whole for each in shown)
        return [each for each in self._with_sound(shown, room) if each.heard or each.lines], complete

    def _with_sound(self, shown: Sequence[Shown], room: int) -> list[Shown]:
        """The same, the newest windows heard too where there is room left."""
        more: list[Shown] = []
        for each in reversed(shown):
            piece = each.piece
            wanted = not each.heard and each.whole and (self._heard_if_captioned or self._needs_hearing(piece))
            wanted = wanted and piece.sound is not None
            heard = wanted and piece.ready and _tokens(piece) <= room
            room = room - _tokens(piece) * heard if heard or not wanted else 0  # none that is older either
            more.insert(0, replace(each, heard=each.heard or heard))
        return more

    def _needs_hearing(self, piece: Piece) -> bool:
        if piece.sound is None:
            return False
        if self._notes == "forgotten" or not piece.lines:
            return True
        captioned = [*((line.start, line.end) for line in piece.lines), *piece.spoken]
        return has_uncaptioned_sound(piece.start, piece.end, captioned)

    def fitting(self, lines: Sequence[CaptionLine], room: int) -> tuple[CaptionLine, ...]:
        """The newest captions that fit so many positions."""
        first = len(lines)
        while first and (room := room - self.cost(lines[first - 1 : first])) >= 0:
            first -= 1
        return tuple(lines[first:])

    def cost(self, lines: Sequence[CaptionLine]) -> int:
        """Positions of captions."""
        return sum(self._count(transcript([line]).text) for line in lines)


def parts_of(shown: Iterable[Shown]) -> tuple[PromptPart, ...]:
    """What is shown, in the order in which the model reads it."""
    parts: list[PromptPart] = []
    for each in shown:
        if each.heard and each.piece.sound:
            parts.append(each.piece.sound)
        if each.lines:
            parts.append(transcript(each.lines))
    return tuple(parts)


def _tokens(piece: Piece) -> int:
    return piece.sound.tokens if piece.sound else 0
