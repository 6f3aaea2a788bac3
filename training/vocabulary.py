"""Sentences with names and product words that Whisper does not write of its own accord, in natural voices.

The forty terms of ``vocabulary.json`` were listed before the first measurement.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from training import neural, score

SENTENCES: Final = Path(__file__).with_name("vocabulary.json")


@dataclass(frozen=True)
class Clip:
    """A spoken sentence, and the terms in it."""

    path: Path
    text: str
    terms: tuple[str, ...]


def spoken(folder: Path) -> list[Clip]:
    """Return the sentences, in piper's voice joe and in Kokoro by turns, and synthesise those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number, sentence in enumerate(json.loads(SENTENCES.read_text(encoding="utf-8"))):
        path = folder / f"{number}.wav"
        if not path.exists() and number % 2:
            neural.kokoro(neural.KOKORO_STYLES, sentence["text"], Random(path.stem), path)
        elif not path.exists():
            neural.joe(sentence["text"], Random(path.stem), path)
        clips.append(Clip(path, sentence["text"], tuple(sentence["terms"])))
    return clips


def compare(clip: Clip, heard: str) -> tuple[int, int, int]:
    """Return the terms that are not heard, the errors in all other words, and how many other words there are.

    A term that is not heard stands as one wrong word: what is written in its place is not counted as another error.
    """
    said, written = score.bare(clip.text), score.bare(heard)
    terms = {term.casefold() for term in clip.terms}
    missed = sum(term not in written for term in terms)
    others = len(said) - len(terms)
    return missed, max(0, score.edits(said, written) - missed), others
