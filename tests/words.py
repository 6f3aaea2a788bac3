"""How words are compared: without case, punctuation, hyphens, or the spelling of titles."""

from __future__ import annotations

import re

import jiwer

TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor"}


def bare(text: str) -> str:
    """The words alone."""
    words = re.sub(r"[^\w\s']", " ", text.casefold()).split()
    return " ".join(TITLES.get(word, word) for word in words)


def word_error_rate(said: str, heard: str) -> float:
    """Words wrong, of the words said."""
    return float(jiwer.wer(bare(said), bare(heard)))
