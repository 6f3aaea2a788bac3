"""Compose and compare the parts of a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

from af3stream.engine.contract import PromptPart, Text


def caption_line(text: str, start_s: float, speaker: str | None = None) -> str:
    """Return a caption as it stands in a prompt: the time since the session's start, the speaker if known, the words.

    ``[1:02] Good morning.``, ``[1:02:03] Anna: Good morning.``
    """
    minutes, seconds = divmod(int(start_s), 60)
    hours, minutes = divmod(minutes, 60)
    time = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"[{time}] {speaker}: {text}" if speaker else f"[{time}] {text}"


def note(lines: Iterable[str]) -> Text:
    """Return captions as part of a prompt, one a line."""
    return Text("".join(f"{line}\n" for line in lines))


def shared(parts: Sequence[PromptPart], kept: Sequence[PromptPart]) -> int:
    """Return how many leading parts two bodies share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts, kept, strict=False)))
