"""The arguments of the ``listen`` command."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from af3stream.errors import SourceError, quoted
from af3stream.protocol.messages import Format

DEFAULT_SERVER: Final = "ws://127.0.0.1:8765"
FOLLOW_UP: Final = ">"


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The arguments of the command.

    Attributes:
        source: an audio file, ``mic``, or ``-`` for raw PCM on standard input.
        server: the service's address.
        pace: send a file or standard input in real time, or as fast as the service accepts it.
        asks: questions, each asked after all audio, or ``@12.5 text`` after that many seconds of it. A question that
            begins with ``>`` follows up the one asked before it.
        watches: standing questions, from the start on.
        captions: a ``.vtt``, ``.srt`` or ``.jsonl`` file to write.
        json: print every message of the server as one JSON line.
        format, rate, channels: the format of standard input and of the microphone; a file has its own.
        device: the microphone, by its number or a part of its name; by default the system's choice.
        token: for the service; by default ``$AF3STREAM_TOKEN``.
        language: of the speech, a code or ``auto``; by default as the service is configured.
        languages: codes that may occur; empty: all that the captioner knows.
        translate: English beside the original.
        vocabulary: names and terms that are likely to be said.
        speakers: whether captions say who speaks; a number: so many people at most.
        words: whether captions say when each word was said; caption files are cut by it.
        instructions: the system turn of every question; empty: the model's own.
    """

    source: str
    server: str = DEFAULT_SERVER
    pace: Literal["realtime", "fast"] = "realtime"
    asks: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()
    captions: Path | None = None
    json: bool = False
    format: Format = "pcm_s16le"
    rate: int = 16_000  # Hz
    channels: int = 1
    device: str | None = None
    token: str | None = None
    language: str | None = None
    languages: tuple[str, ...] = ()
    translate: bool = False
    vocabulary: tuple[str, ...] = ()
    speakers: bool | int = False
    words: bool = False
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the second of audio at which it is asked; ``None``: after all audio.

    Attributes:
        follows_up: whether it follows up the question asked before it.
    """

    text: str
    at: float | None
    follows_up: bool = False


def parse_speakers(spelled: str) -> bool | int:
    """Parse ``--speakers``: ``any``, or the most speakers.

    Raises:
        argparse.ArgumentTypeError: if it is neither.
    """
    if spelled == "any":
        return True
    if not spelled.isdecimal() or int(spelled) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(spelled)} is neither 'any' nor a whole number from 1 on")
    return int(spelled)


def question(spelled: str) -> Question:
    """Parse one ``--ask``: ``text``, ``@12.5 text``, ``> text`` or ``@12.5 > text``.

    Raises:
        SourceError: if there is no text, or no number of seconds after ``@``.
    """
    match = re.fullmatch(r"@(\d+(?:\.\d+)?)\s+(.*)", spelled, re.DOTALL)
    if spelled.startswith("@") and not match:
        raise SourceError(f"a timed question reads '@12.5 text', not {quoted(spelled)}")
    text = (match[2] if match else spelled).strip()
    follows_up, text = follow_up(text)
    if not text:
        raise SourceError("a question has no text")
    return Question(text, float(match[1]) if match else None, follows_up)


def follow_up(spelled: str) -> tuple[bool, str]:
    """Return whether a text follows up the question before it (``> text``), and the text of the question."""
    return spelled.startswith(FOLLOW_UP), spelled.removeprefix(FOLLOW_UP).strip()
