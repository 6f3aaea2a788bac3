"""What clients of the OpenAI API say about speech, as a session takes it: a language, names and terms."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from af3stream.server.openai_errors import ApiError

TERM_CHARS: Final = 64
MOST_TERMS: Final = 200
_BETWEEN: Final = re.compile(r"[,;:.\n]+")


def vocabulary(keywords: Iterable[str], prompt: str | None) -> tuple[str, ...]:
    """Return the terms: the keywords, then what stands between the punctuation of the prompt.

    A term of more than 64 characters, or beyond the 200th, is left out: it is a sentence, or too much to listen for.
    """
    terms = (term.strip() for term in (*keywords, *_BETWEEN.split(prompt or "")))
    return tuple(dict.fromkeys(term for term in terms if 0 < len(term) <= TERM_CHARS))[:MOST_TERMS]


def language(code: str | None, known: Collection[str], param: str) -> str | None:
    """Return a language's code without its region; ``None`` if the captioner cannot be told any.

    Most clients name a language, whatever the captioner. So a captioner that cannot be told one is no reason to refuse.

    Args:
        known: codes of the languages that the captioner can be told.
        param: the field, for the error.

    Raises:
        ApiError: for a code that the captioner does not know, by name.
    """
    if not code or not known:
        return None
    bare = re.split("[-_]", code.lower())[0]
    if bare not in known:
        raise ApiError(f"the captioner does not know the language {bare!r}", code="invalid_language", param=param)
    return bare


def languages(codes: Iterable[str], known: Collection[str], param: str) -> tuple[str, ...]:
    """Return the codes of several languages. Raises as `language` does."""
    found = (language(code, known, param) for code in codes)
    return tuple(dict.fromkeys(code for code in found if code))
