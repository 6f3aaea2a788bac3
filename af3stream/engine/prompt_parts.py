"""Compose and compare the parts of a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

from af3stream.engine.contract import Instructions, PromptPart, Text


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


def instructions_of(parts: Sequence[PromptPart]) -> Instructions | None:
    """Return the instructions that a body begins with, if there are any."""
    first = parts[0] if parts else None
    return first if isinstance(first, Instructions) else None


def shared(parts: Sequence[PromptPart], kept: Sequence[PromptPart]) -> int:
    """Return how many leading parts of a kept prefix a body can use.

    Instructions count only with a part after them, or if the prefix is nothing else: a prefix is not cut down to them.
    """
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts, kept, strict=False)))
    only_instructions = common == 1 and len(kept) > 1 and instructions_of(kept) is not None
    return 0 if only_instructions else common
