"""Clean the texts of questions and instructions."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from af3stream.config import QuestionsConfig
from af3stream.engine.facts import EngineFacts
from af3stream.errors import BadText, QueryLimit

INSTRUCTIONS_SHARE: Final = 4  # instructions take a quarter of the model's positions at most
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
    cleaned = _readable(re.sub(r"\s+", " ", text), ref=ref)
    if not any(unicodedata.category(c)[0] in "LNS" for c in cleaned):
        raise BadText("the text holds no words", ref=ref)
    return cleaned


def clean_instructions(text: str, config: QuestionsConfig, facts: EngineFacts) -> str:
    """Return instructions, cleaned like a question, but with their lines and indentation. They may be empty.

    Raises:
        QueryLimit: for too many characters, or more than a quarter of the model's positions.
        BadText: for lone surrogates.
    """
    if len(text) > config.max_instructions_chars:
        raise QueryLimit(f"instructions may have {config.max_instructions_chars} characters")
    cleaned = _readable("\n".join(text.splitlines()), allowed="\n\t")
    most = facts.capacity.positions // INSTRUCTIONS_SHARE
    if (found := facts.tokens.count(cleaned)) > most:
        raise QueryLimit(f"instructions may have {most} tokens of this model, found {found}")
    return cleaned


def _readable(text: str, *, allowed: str = "", ref: str | None = None) -> str:
    """Return a text without control and bidirectional formatting characters, and without white space around it.

    Args:
        allowed: control characters that stay.

    Raises:
        BadText: for lone surrogates.
    """
    if any(unicodedata.category(c) == "Cs" for c in text):
        raise BadText("the text is not valid Unicode", ref=ref)
    return "".join(c for c in text if (unicodedata.category(c) != "Cc" or c in allowed) and c not in _BIDI).strip()
