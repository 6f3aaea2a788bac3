"""What a question reads beside the kept prefix: captions have the room first, and audio what is left."""

from __future__ import annotations

from dataclasses import replace

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.contract import AudioSegment
from af3stream.session.caption_line import CaptionLine
from af3stream.session.prompt_body import Selection, UnreadWindow


def window(number: int) -> UnreadWindow:
    """20 s with one caption at its beginning; the rest is sound that no caption carries, 50 frames."""
    start = number * 20 * SAMPLE_RATE
    sound = AudioSegment(0, 32_000, 50)
    return UnreadWindow(
        start, start + 20 * SAMPLE_RATE, sound, (CaptionLine(number, start, start + SAMPLE_RATE, "words"),)
    )


def test_audio_takes_no_room_that_captions_of_older_windows_need() -> None:
    selection = Selection("all", False, lambda text: 10)
    pieces = [window(number) for number in range(4)]
    shown, complete = selection.choose(pieces, 60)
    assert complete and [len(each.lines) for each in shown] == [1, 1, 1, 1]
    assert not any(each.as_audio for each in shown)
    shown, complete = selection.choose(pieces, 90)
    assert complete and [each.as_audio for each in shown] == [False, False, False, True]


def test_speech_without_captions_yet_takes_no_room_that_captions_of_older_windows_need() -> None:
    selection = Selection("all", False, lambda text: 10)
    start, end = 80 * SAMPLE_RATE, 100 * SAMPLE_RATE
    speech = UnreadWindow(start, end, AudioSegment(0, 32_000, 50), (), ((start, end),))
    shown, complete = selection.choose([*(window(number) for number in range(4)), speech], 60)
    assert complete and [len(each.lines) for each in shown] == [1, 1, 1, 1]
    shown, _ = selection.choose([window(0), speech], 60)
    assert [(len(each.lines), each.as_audio) for each in shown] == [(1, False), (0, True)]
    shown, _ = selection.choose([speech], 30)
    assert [each.as_audio for each in shown] == [True]
    music = replace(speech, spoken=())
    shown, _ = selection.choose([window(0), music], 30)
    assert [(len(each.lines), each.as_audio) for each in shown] == [(0, True)]
