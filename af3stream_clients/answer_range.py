"""Describe the range of audio and captions that an answer is based on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from af3stream.protocol.messages import Answer

MIN_GAP_S: Final = 3.0  # the description names a shorter end of audio if the gap is larger

Clock = Callable[[float], str]


def describe_range(answer: Answer, begins: Clock, ends: Clock) -> str:
    """Describe the audio range of an answer, and the captions that it read after that range.

    Args:
        begins, ends: format the seconds at which a range begins or ends.

    Returns:
        ``Heard 0:00 to 1:20, captions to 1:45``, or a part of it.
    """
    heard, since, until = answer.heard_until, answer.captions_from, answer.captioned_until
    if heard is None and since is not None and until is not None:
        return f"Captions {begins(since)} to {ends(until)}"
    if heard is None or answer.end - heard <= MIN_GAP_S:
        return f"Heard {begins(answer.start)} to {ends(answer.end)}"
    words = f"Heard {begins(answer.start)} to {ends(heard)}"
    if since is None or until is None or until <= heard:
        return words
    return f"{words}, captions {begins(since) + ' ' if since > heard + MIN_GAP_S else ''}to {ends(until)}"
