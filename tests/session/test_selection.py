"""What a question reads beside the kept prefix: captions have the room first, and audio what is left."""

from __future__ import annotations

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.contract import AudioSegment
from af3stream.session.body import Piece, Selection
from af3stream.session.caption_track import CaptionLine


def window(number: int) -> Piece:
    """20 s with one caption at its beginning; the rest is sound that no caption carries, 50 frames."""
    start = number * 20 * SAMPLE_RATE
    sound = AudioSegment(0, 32_000, 50)
    return Piece(start, start + 20 * SAMPLE_RATE, sound, (CaptionLine(number, start, start + SAMPLE_RATE, "words"),))


def test_audio_takes_no_room_that_captions_of_older_windows_need() -> None:
    selection = Selection("all", False, lambda text: 10)
    pieces = [window(number) for number in range(4)]
    shown, complete = selection.choose(pieces, 60)
    assert complete and [len(each.lines) for each in shown] == [1, 1, 1, 1]
    assert not any(each.heard for each in shown)
    shown, complete = selection.choose(pieces, 90)
    assert complete and [each.heard for each in shown] == [False, False, False, True]
