"""Clean the text of questions."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from af3stream.config import QuestionsConfig
from af3stream.errors import BadText, QueryLimit

_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # UAX #9


def clean(text: str, ref: str, config: QuestionsConfig) -> str:
    """Return a question's text, cleaned.

    Raises:
        QueryLimit: for a text that is too long.
        BadText: as `clean_text` does.
    """
    if len(text) > config.max_chars:
        raise QueryLimit(f"a question may have {config.max_chars} characters", ref=ref)
    return clean_text(text, ref)


def clean_text(text: str, ref: str | None = None) -> str:
    """Return a text without control and bidirectional formatting characters, with single spaces.

    Raises:
        BadText: for lone surrogates, and if no letter, digit or symbol is left.
    """
    if any(unicodedata.category(c) == "Cs" for c in text):
        raise BadText("the text is not valid Unicode", ref=ref)
    spaced = re.sub(r"\s+", " ", text)
    cleaned = "".join(c for c in spaced if unicodedata.category(c) != "Cc" and c not in _BIDI).strip()
    if not any(unicodedata.category(c)[0] in "LNS" for c in cleaned):
        raise BadText("the text holds no words", ref=ref)
    return cleaned
