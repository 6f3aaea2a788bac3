"""A prompt of the OpenAI API, in which clients list names and terms, as the terms of a session's vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

TERM_CHARS: Final = 64
MOST_TERMS: Final = 200
_BETWEEN: Final = re.compile(r"[,;:.\n]+")


def vocabulary(keywords: Iterable[str], prompt: str | None) -> tuple[str, ...]:
    """Return the terms: the keywords, then what stands between the punctuation of the prompt.

    A term of more than 64 characters, or beyond the 200th, is left out: it is a sentence, or too much to listen for.
    """
    terms = (term.strip() for term in (*keywords, *_BETWEEN.split(prompt or "")))
    return tuple(dict.fromkeys(term for term in terms if 0 < len(term) <= TERM_CHARS))[:MOST_TERMS]
